"""Finding out who asks the control API: by the kernel's word, a token or a certificate."""

import base64
import binascii
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web

from spooky.config.control_api import ControlApi
from spooky.control.admin_credentials import AdminCredentials
from spooky.control.control_socket import peer_user, user_name
from spooky.control.roles import Caller, DeniedError, Role

CALLER: Final = web.RequestKey("caller", Caller)

_SCHEME: Final = "bearer"
_BROWSER_SCHEME: Final = "basic"


class Access(Protocol):
    """Finds out who asks."""

    @property
    def through(self) -> str:
        """What the requests come through, for the audit log."""

    def identify(self, request: web.Request) -> Caller:
        """Return who asks.

        Raises:
            DeniedError: They do not say, or it is not true.
        """

    def is_protected(self, endpoint: str) -> bool:
        """Return whether an endpoint that needs no role by itself needs one here."""


class OwnerAccess:
    """Callers on the Unix socket: the service's own user and root, who may do everything."""

    through = "socket"

    def identify(self, request: web.Request) -> Caller:
        """Return who asks, by the kernel's word."""
        user = peer_user(request)
        if user is None or user not in (0, os.geteuid()):
            raise DeniedError(403, "forbidden", "only the service's own user and root may do this")
        return Caller(user_name(user), Role.ADMIN)

    def is_protected(self, _: str) -> bool:
        """Return True: others get no answer at all."""
        return True


class RemoteAccess:
    """Callers over TCP: by a bearer token, a client certificate, or both.

    Without either in the configuration, which only a loopback address may be, anybody may read.

    Arguments:
        settings: Gives what is in force.
    """

    through = "tcp"

    def __init__(self, settings: Callable[[], tuple[ControlApi, AdminCredentials]]) -> None:
        self._settings = settings

    def identify(self, request: web.Request) -> Caller:
        """Return who asks."""
        api, credentials = self._settings()
        shown = _by_token(request, credentials)
        certified = _by_certificate(request, api)
        if shown is None and certified is None:
            if api.authenticates:
                raise DeniedError(401, "missing_authentication", "say who you are: Bearer token")
            return Caller("", Role.VIEWER)
        if shown is None or certified is None:
            return shown or certified  # type: ignore[return-value]
        if shown.name != certified.name:
            raise DeniedError(
                403, "identity_mismatch", "the token and the certificate are not of the same caller"
            )
        return shown if certified.role.includes(shown.role) else certified

    def is_protected(self, endpoint: str) -> bool:
        """Return whether a health check must say who it is."""
        authorization = self._settings()[0].authorization
        return (endpoint == "health" and authorization.protect_health) or (
            endpoint == "ready" and authorization.protect_ready
        )


def _by_token(request: web.Request, credentials: AdminCredentials) -> Caller | None:
    """Return who shows a token.

    A browser asks people for a name and a password, and shows both again with whatever a page of
    another site has it ask for: with a token as the password, any name, one may read and no more.
    """
    values = request.headers.getall("Authorization", [])
    if not values:
        return None
    scheme, _, shown = values[0].partition(" ")
    found = None
    if len(values) == 1 and scheme.lower() == _SCHEME:
        found = credentials.who_shows(shown.strip().encode("utf-8", "surrogateescape"))
    elif len(values) == 1 and scheme.lower() == _BROWSER_SCHEME:
        found = credentials.who_shows(_password(shown))
        found = Caller(found.name, Role.VIEWER) if found is not None else None
    if found is None:
        raise DeniedError(401, "invalid_bearer_token", "the token is not one that counts here")
    return found


def _password(shown: str) -> bytes:
    """Return the password that a browser shows (RFC 7617); empty if there is none."""
    try:
        return base64.b64decode(shown.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def _by_certificate(request: web.Request, api: ControlApi) -> Caller | None:
    connection = request.get_extra_info("ssl_object")
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLObject) else None
    if not certificate:
        return None
    names = set(_names(certificate, api.auth.identity_source.kind))
    found = [one for one in api.auth.certificates if one.name in names]
    if not found:
        raise DeniedError(403, "unknown_certificate", "the certificate names nobody with a role")
    # One with several names gets the least that any of them has.
    least = min(found, key=lambda one: list(Role).index(Role(one.role)))
    return Caller(least.name, Role(least.role))


def _names(certificate: Mapping[str, Any], kind: str) -> Iterable[str]:
    """Yield the names in a verified certificate, as the ``ssl`` module gives it."""
    if kind == "mtls_subject_cn":
        for attributes in certificate.get("subject", ()):
            yield from (value for key, value in attributes if key == "commonName")
    else:
        wanted = "DNS" if kind == "mtls_san_dns" else "URI"
        yield from (value for key, value in certificate.get("subjectAltName", ()) if key == wanted)
