"""What the control API over TCP presents and expects: its certificate, authorities and tokens.

Workers never see any of it. Of a token only a digest is kept, under a key that ends with this
process: what is compared with what a caller shows, and with a changed file.
"""

import hashlib
import hmac
import os
import secrets
import ssl
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from spooky.config.control_api import ControlApi
from spooky.config.schema import Configuration
from spooky.control.roles import Caller, Role
from spooky.generation.materials import MaterialError, Materials, read_file
from spooky.runtime.memory_file import memory_file

TOKEN_MIN_LENGTH: Final = 32
"""Characters: 128 bits at least if they are hexadecimal, which nobody guesses over a network."""

TOKEN_MAX_BYTES: Final = 4096

_KEY: Final = secrets.token_bytes(32)


@dataclass(frozen=True)
class AdminCredentials:
    """What was read for the control API over TCP.

    Attributes:
        files: What a plan compares, by path: contents, and digests in place of tokens.
        context: TLS; ``None`` if it is not enabled.
        tokens: Who shows the token of each digest.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    tokens: Mapping[bytes, Caller] = field(default_factory=dict)

    def who_shows(self, token: bytes) -> Caller | None:
        """Return whose token this is; takes as long whichever it is, and if it is none."""
        shown, found = _digest(token), None
        for digest, caller in self.tokens.items():
            if hmac.compare_digest(digest, shown):
                found = caller
        return found

    def presenting(self, configuration: Configuration, materials: Materials) -> "AdminCredentials":
        """Return the same, with the first listener's certificate as it is now, if it is that."""
        api = configuration.observability.control_api
        if self.context is None or api.tls.cert:
            return self
        certificate, key = _first_certificate(configuration, materials)
        return replace(self, context=_context(api, certificate, key, self.files))


def read_credentials(configuration: Configuration, materials: Materials) -> AdminCredentials:
    """Read what the control API needs, if it is enabled.

    Arguments:
        materials: The files of the rest, where the certificate of the first listener is.

    Raises:
        MaterialError: A file cannot be used.
    """
    files = {
        path: content
        for group in credential_groups(configuration)
        for path, content in read_group(configuration, group).items()
    }
    return make_credentials(configuration, materials, files)


def credential_groups(configuration: Configuration) -> list[tuple[str, ...]]:
    """Return the files that the control API needs, if it is enabled: groups that fit together."""
    api = configuration.observability.control_api
    if not api.enabled:
        return []
    groups: list[tuple[str, ...]] = [(one.token_file,) for one in api.auth.bearer_tokens]
    if api.tls.cert:
        groups.append((api.tls.cert, api.tls.key))
    if api.tls.client_auth.mode != "disabled":
        groups.append((api.tls.client_auth.ca_file or "",))
    return groups


def read_group(configuration: Configuration, group: Iterable[str]) -> dict[str, bytes]:
    """Return what a plan compares of some files, by path.

    Raises:
        MaterialError: One cannot be used.
    """
    api = configuration.observability.control_api
    tokens = {one.token_file for one in api.auth.bearer_tokens}
    return {
        path: _digest(_read_token(path)) if path in tokens else read_file(Path(path))
        for path in group
    }


def make_credentials(
    configuration: Configuration, materials: Materials, files: Mapping[str, bytes]
) -> AdminCredentials:
    """Return what files make that were read.

    Arguments:
        materials: The files of the rest, where the certificate of the first listener is.
        files: What :func:`read_group` gave of each group.

    Raises:
        MaterialError: They do not fit together.
    """
    api = configuration.observability.control_api
    if not api.enabled:
        return AdminCredentials()
    tokens: dict[bytes, Caller] = {}
    for token in api.auth.bearer_tokens:
        digest = files[token.token_file]
        if digest in tokens:
            raise MaterialError(f"{token.token_file} holds the token of another caller")
        tokens[digest] = Caller(token.actor_id, Role(token.role))
    tls = api.tls
    if tls.cert:
        certificate, key = files[tls.cert], files[tls.key]
    else:
        certificate, key = _first_certificate(configuration, materials)
    return AdminCredentials(files, _context(api, certificate, key, files), tokens)


def _first_certificate(configuration: Configuration, materials: Materials) -> tuple[bytes, bytes]:
    tls = configuration.active_listeners[0].tls
    first = tls if tls.cert else tls.certificates[0]
    return materials[first.cert], materials[first.key]


def _context(
    api: ControlApi, certificate: bytes, key: bytes, files: Mapping[str, bytes]
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        with memory_file(certificate + b"\n" + key) as path:
            context.load_cert_chain(path)
        if api.tls.client_auth.mode != "disabled":
            authorities = files[api.tls.client_auth.ca_file or ""]
            context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise MaterialError(f"observability.control_api.tls: {error}") from error
    modes = {"optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    context.verify_mode = modes.get(api.tls.client_auth.mode, ssl.CERT_NONE)
    # Nothing is resumed: every caller is verified anew, against the authorities of now.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    if context.verify_mode is not ssl.CERT_NONE:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _read_token(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(TOKEN_MAX_BYTES + 1)
    except OSError as error:
        raise MaterialError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise MaterialError(f"{path} is not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise MaterialError(f"{path} belongs to somebody else: chown it to the service's user")
    if stat.S_IMODE(status.st_mode) & 0o037:
        raise MaterialError(f"{path} can be read or written by others: chmod 600 it")
    token = text.strip()
    if not TOKEN_MIN_LENGTH <= len(token) <= TOKEN_MAX_BYTES or not token.isascii():
        raise MaterialError(
            f"{path} holds no token of {TOKEN_MIN_LENGTH} ASCII characters or more: make one with "
            "`openssl rand -hex 32`"
        )
    return token


def _digest(token: bytes) -> bytes:
    return hmac.digest(_KEY, token, hashlib.sha256)
