"""What is in force, with certificates, keys and tokens as they are now."""

import datetime
import hashlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from spooky.config.files import PEM_CERTIFICATE
from spooky.config.schema import Configuration
from spooky.control.admin_credentials import credential_groups, make_credentials, read_group
from spooky.control.candidate import Candidate
from spooky.generation.certificates import load_listener_tls
from spooky.generation.identities import upstream_tls
from spooky.generation.materials import (
    MaterialError,
    Materials,
    listener_paths,
    named_files,
    read_file,
    upstream_paths,
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What files have become since they were read.

    Attributes:
        candidate: What is in force, with all that can be used of it.
        taken: The SHA-256 of what the candidate has of it, by path.
        problems: Why the rest is as it was; paths are named.
    """

    candidate: Candidate
    taken: Mapping[str, bytes]
    problems: list[str]

    @property
    def reason(self) -> str:
        """What is renewed."""
        return f"renewed: {', '.join(sorted(self.taken))}"


def watched_files(running: Candidate) -> list[str]:
    """Return the files that are renewed without a change of the configuration."""
    configuration = running.configuration
    paths = set(named_files(configuration)).union(*credential_groups(configuration))
    return sorted(paths)


def read_renewal(running: Candidate, known: Mapping[str, bytes], now: datetime.datetime) -> Renewal:
    """Read the files that are watched.

    Arguments:
        running: What is in force.
        known: The SHA-256 of what is not to be taken, by path.
        now: The time that certificates are held against, with a time zone.
    """
    problems: list[str] = []
    changed: dict[str, bytes] = {}
    credentials: dict[str, bytes] = {}

    def is_new(path: str, content: bytes, used: bytes) -> bool:
        return content != used and _digest(content) != known.get(path)

    for path in sorted(set(named_files(running.configuration))):
        try:
            content = read_file(Path(path))
        except MaterialError as error:
            problems.append(str(error))
            continue
        if is_new(path, content, running.materials.files[path]):
            changed[path] = content
    for group in credential_groups(running.configuration):
        try:
            contents = read_group(running.configuration, group)
        except MaterialError as error:
            problems.append(str(error))
            continue
        used = running.credentials.files
        credentials |= {
            path: content for path, content in contents.items() if is_new(path, content, used[path])
        }
    candidate = running
    if changed or credentials:
        candidate, unusable = renew(running, changed, now, credentials)
        problems += unusable
    taken = {
        path: _digest(content)
        for news, files in (
            (changed, candidate.materials.files),
            (credentials, candidate.credentials.files),
        )
        for path, content in news.items()
        if files[path] == content
    }
    return Renewal(candidate, taken, problems)


def renew(
    running: Candidate,
    changed: Mapping[str, bytes],
    now: datetime.datetime,
    credentials: Mapping[str, bytes] | None = None,
) -> tuple[Candidate, list[str]]:
    """Return a candidate that differs from what is in force in files alone.

    A certificate and its key are taken together or not at all, and what cannot be used keeps
    nothing else from being renewed.

    Arguments:
        running: What is in force.
        changed: The content of files that are not as they were, by path.
        now: The time that certificates are held against, with a time zone.
        credentials: The same of files of the control API, where a token has a digest for content.

    Returns:
        The candidate, and for all that is kept as it was, why; paths are named.
    """
    configuration, authorities = running.configuration, running.materials.authorities
    files = dict(running.materials.files)
    problems: list[str] = []
    for group in _groups(configuration):
        news = {path: changed[path] for path in sorted(group & changed.keys())}
        if not news:
            continue
        trial = Materials(files | news, authorities)
        try:
            for path, content in news.items():
                _check_dates(path, files[path], content, now)
            _check(configuration, trial, group)
        except MaterialError as error:
            problems.append(str(error))
        else:
            files |= news
    materials = Materials(files, authorities)
    tls = tuple(
        load_listener_tls(listener, materials) for listener in configuration.active_listeners
    )
    presenting = running.credentials.presenting(configuration, materials)
    renewed = replace(running, materials=materials, tls=tls, credentials=presenting)
    for files_of_api in credential_groups(configuration):
        news = {
            path: credentials[path] for path in files_of_api if credentials and path in credentials
        }
        if news:
            try:
                renewed = _with_credentials(renewed, news, now)
            except MaterialError as error:
                problems.append(str(error))
    return renewed, problems


def _with_credentials(
    candidate: Candidate, news: Mapping[str, bytes], now: datetime.datetime
) -> Candidate:
    """Return a candidate with other files of the control API.

    Raises:
        MaterialError: They cannot be used.
    """
    before = candidate.credentials.files
    for path, content in news.items():
        _check_dates(path, before[path], content, now)
    made = make_credentials(candidate.configuration, candidate.materials, {**before, **news})
    return replace(candidate, credentials=made)


def _groups(configuration: Configuration) -> list[set[str]]:
    """Return the files that belong together: certificates and keys, transitively."""
    groups: list[set[str]] = []
    for files in _together(configuration):
        joined = set(files)
        apart = []
        for group in groups:
            if group & joined:
                joined |= group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups


def _together(configuration: Configuration) -> Iterator[list[str]]:
    for listener in configuration.active_listeners:
        tls = listener.tls
        if tls.cert:
            yield [tls.cert, tls.key]
        yield from ([one.cert, one.key] for one in tls.certificates)
        for auth in tls.every_client_auth():
            if auth.enabled and auth.ca_file:
                yield [auth.ca_file]
    for towards in {configuration.tls_of(name) for name in configuration.upstream}:
        if towards.client_certificate and towards.client_key:
            yield [towards.client_certificate, towards.client_key]
        yield from ([path] for path in (towards.ca_file, towards.ca_dir) if path)


def _check(configuration: Configuration, materials: Materials, group: set[str]) -> None:
    """Load what uses some files."""
    for listener in configuration.active_listeners:
        if group.intersection(listener_paths(listener)):
            load_listener_tls(listener, materials)
    for tls in {configuration.tls_of(name) for name in configuration.upstream}:
        if paths := group.intersection(upstream_paths(tls)):
            try:
                upstream_tls(tls, materials).context("auto")
            except (ssl.SSLError, ValueError) as error:
                raise MaterialError(f"{' with '.join(sorted(paths))}: {error}") from error


def _check_dates(path: str, old: bytes, new: bytes, now: datetime.datetime) -> None:
    """Refuse a certificate that is not in date, where the one before is."""
    dates = _dates(new)
    before = _dates(old)
    if dates is None or (before is not None and not before[0] <= now <= before[1]):
        return
    start, end = dates
    if now > end:
        raise MaterialError(f"{path}: the certificate expired on {end:%Y-%m-%d}")
    if now < start:
        raise MaterialError(f"{path}: the certificate is not valid before {start:%Y-%m-%d %H:%M}")


def _dates(content: bytes) -> tuple[datetime.datetime, datetime.datetime] | None:
    """Return from when until when the first certificate of a file is good, if it has one."""
    if PEM_CERTIFICATE not in content:
        return None
    try:
        first = x509.load_pem_x509_certificate(content)
    except ValueError:
        return None
    return first.not_valid_before_utc, first.not_valid_after_utc


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
