"""The files that a configuration names, read once, so that workers open no path."""

import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spooky.config.schema import Configuration, Listener, UpstreamTLS

FILE_MAX_BYTES = 1024 * 1024
"""No certificate, key or authority file is larger; a path given by mistake may be."""

AUTHORITIES_FILE: Final = "ca-certificates.crt"
"""Where a directory of trusted authorities, one to a file, often has them all together."""

_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)


class MaterialError(Exception):
    """A file that the configuration names cannot be used; says which and why."""


@dataclass(frozen=True, slots=True)
class Materials:
    """The contents of files.

    Attributes:
        files: Content by path as the configuration names it; a directory's is the content of all
            its PEM files, one after the other.
        authorities: The authorities that the system trusts; PEM.
    """

    files: Mapping[str, bytes]
    authorities: bytes

    def __getitem__(self, path: str) -> bytes:
        return self.files[path]


def read_materials(configuration: Configuration) -> Materials:
    """Read every file that the configuration names, logs apart.

    Raises:
        MaterialError: One cannot be read.
    """
    files = {path: read_file(Path(path)) for path in named_files(configuration)}
    return Materials(files, system_authorities())


def read_available_materials(
    configuration: Configuration,
) -> tuple[Materials, list[MaterialError]]:
    """Read what can be read of the files that the configuration names, logs apart.

    Returns:
        The files, and for each other one why it could not be read.
    """
    files: dict[str, bytes] = {}
    errors: dict[str, MaterialError] = {}
    for path in dict.fromkeys(named_files(configuration)):
        try:
            files[path] = read_file(Path(path))
        except MaterialError as error:
            errors[path] = error
    return Materials(files, system_authorities()), list(errors.values())


def system_authorities() -> bytes:
    """Return the certificates that the system trusts, PEM; empty if it has none.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` say where else they are.
    """
    found = ssl.get_default_verify_paths()
    certificates: dict[bytes, None] = {}
    for path in (found.cafile, found.capath):
        for source in _authority_files(Path(path)) if path is not None else ():
            with contextlib.suppress(OSError):
                # Some bundles have comments that are not ASCII.
                certificates |= dict.fromkeys(_CERTIFICATE.findall(source.read_bytes()))
    return b"\n".join(certificates)


def _authority_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    together = path / AUTHORITIES_FILE
    return [together] if together.is_file() else sorted(path.iterdir())


def named_files(configuration: Configuration) -> Iterator[str]:
    """Yield every file that the configuration names, logs apart; some more than once."""
    for listener in configuration.active_listeners:
        yield from listener_paths(listener)
    for name in configuration.upstream:
        yield from upstream_paths(configuration.tls_of(name))


def listener_paths(listener: Listener) -> Iterator[str]:
    """Yield the path of each file that a listener needs."""
    tls = listener.tls
    candidates = [tls.cert, tls.key]
    for certificate in tls.certificates:
        candidates += [certificate.cert, certificate.key]
    candidates += [auth.ca_file or "" for auth in tls.every_client_auth() if auth.enabled]
    yield from (path for path in candidates if path)


def upstream_paths(tls: UpstreamTLS) -> Iterator[str]:
    """Yield the path of each file that TLS to an upstream needs."""
    candidates = (tls.ca_file, tls.ca_dir, tls.client_certificate, tls.client_key)
    yield from (path for path in candidates if path)


def read_file(path: Path) -> bytes:
    """Return the content of a file, or of all PEM files in a directory.

    Raises:
        MaterialError: It cannot be read.
    """
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in (".pem", ".crt"))
            return b"\n".join(read_file(file) for file in files)
        size = path.stat().st_size
        if size > FILE_MAX_BYTES:
            raise MaterialError(f"{path}: {size} bytes is too large; at most {FILE_MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise MaterialError(f"{path}: {error.strerror}") from error
