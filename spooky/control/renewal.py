"""What is in force, with certificates, keys and tokens as they are now."""

import datetime
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from spooky.config.files import PEM_CERTIFICATE
from spooky.config.schema import Configuration
from spooky.control.admin_credentials import credential_groups, make_credentials, read_group
from spooky.control.candidate import Candidate
from spooky.control.files_seen import sha256
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
        taken: The files of which the candidate has it.
        problems: Why the rest is as it was; paths are named.
        given_up: The SHA-256 of what was taken back and is there still, by path.
    """

    candidate: Candidate
    taken: list[str]
    problems: list[str]
    given_up: dict[str, bytes]

    @property
    def reason(self) -> str:
        """What is renewed."""
        return f"renewed: {', '.join(self.taken)}"


def watched_files(running: Candidate) -> list[str]:
    """Return the files that are renewed without a change of the configuration."""
    configuration = running.configuration
    paths = set(named_files(configuration)).union(*credential_groups(configuration))
    return sorted(paths)


def read_renewal(
    running: Candidate, given_up: Mapping[str, bytes], now: datetime.datetime
) -> Renewal:
    """Read the files that are watched.

    Arguments:
        running: What is in force.
        given_up: The SHA-256 of what was taken back, by path: it is not taken, unless another file
            that belongs to it has changed.
        now: The time that certificates are held against, with a time zone.
    """
    configuration = running.configuration
    used = running.contents
    problems: list[str] = []
    found: dict[str, bytes] = {}
    for path in sorted(set(named_files(configuration))):
        try:
            found[path] = read_file(Path(path))
        except MaterialError as error:
            problems.append(str(error))
    changed = _news(file_groups(configuration), found, used, given_up)
    of_api: dict[str, bytes] = {}
    groups_of_api = list(credential_groups(configuration))
    for group in groups_of_api:
        try:
            of_api |= read_group(configuration, group)
        except MaterialError as error:
            problems.append(str(error))
    credentials = _news(map(set, groups_of_api), of_api, used, given_up)
    candidate = running
    if changed or credentials:
        candidate, unusable = renew(running, changed, now, credentials)
        problems += unusable
    has = candidate.contents
    news = {**changed, **credentials}
    found |= of_api
    return Renewal(
        candidate,
        sorted(path for path, content in news.items() if has[path] == content),
        problems,
        {
            path: digest
            for path, digest in given_up.items()
            if path not in found or (found[path] != used[path] and sha256(found[path]) == digest)
        },
    )


def _news(
    groups: Iterable[set[str]],
    found: Mapping[str, bytes],
    used: Mapping[str, bytes],
    given_up: Mapping[str, bytes],
) -> dict[str, bytes]:
    """Return what is found and not used, but for groups of which all of it was given up."""
    news: dict[str, bytes] = {}
    for group in groups:
        here = {path: found[path] for path in group & found.keys() if found[path] != used[path]}
        if any(sha256(content) != given_up.get(path) for path, content in here.items()):
            news |= here
    return news


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
    for group in file_groups(configuration):
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


def file_groups(configuration: Configuration) -> list[set[str]]:
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
