"""What is in force, with certificates and keys as they are now."""

import datetime
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace

from cryptography import x509

from spooky.config.files import PEM_CERTIFICATE
from spooky.config.schema import Configuration
from spooky.control.candidate import Candidate
from spooky.generation.certificates import load_listener_tls
from spooky.generation.identities import upstream_tls
from spooky.generation.materials import (
    MaterialError,
    Materials,
    listener_paths,
    upstream_paths,
)


def renew(
    running: Candidate, changed: Mapping[str, bytes], now: datetime.datetime
) -> tuple[Candidate, list[str]]:
    """Return a candidate that differs from what is in force in files alone.

    A certificate and its key are taken together or not at all, and what cannot be used keeps
    nothing else from being renewed.

    Arguments:
        running: What is in force.
        changed: The content of files that are not as they were, by path.
        now: The time that certificates are held against, with a time zone.

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
    credentials = running.credentials.presenting(configuration, materials)
    return replace(running, materials=materials, tls=tls, credentials=credentials), problems


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
        if tls.client_auth.enabled and tls.client_auth.ca_file:
            yield [tls.client_auth.ca_file]
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
