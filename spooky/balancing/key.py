"""Where the key of hashing balancers comes from.

A request that lacks what is asked for falls back to its authority, then to its path, then to its
method.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from spooky._core.validate import Request

Extract: TypeAlias = Callable[[Request, bytes, bytes], bytes]
"""Takes a key from a request, its client's address and its connection; empty if there is none."""

_BEARER: Final = b"bearer "


@dataclass(frozen=True, slots=True)
class KeySource:
    """Takes the balancing key from a request."""

    _extracts: tuple[Extract, ...]

    @classmethod
    def parse(cls, *texts: str) -> "KeySource":
        """Return the source that a configuration names.

        Arguments:
            texts: Key sources in their canonical spelling; the first that a request has counts.
        """
        return cls((*map(_extract, texts), _authority, _path, _method))

    def extract(self, request: Request, client_address: bytes, connection_id: bytes) -> bytes:
        """Return the key.

        Arguments:
            request: Whose.
            client_address: The client's address.
            connection_id: The ID of its QUIC connection; empty on TCP.
        """
        key = b""
        for extract in self._extracts:
            key = extract(request, client_address, connection_id)
            if key:
                break
        return key


def _extract(text: str) -> Extract:
    """Return what takes the key of one source."""
    source, _, name = text.partition(":")
    if source in _NAMED:
        return _NAMED[source](name)
    return _PLAIN[source]


def _authority(request: Request, address: bytes, connection_id: bytes) -> bytes:
    return request.authority


def _path(request: Request, address: bytes, connection_id: bytes) -> bytes:
    return request.path


def _method(request: Request, address: bytes, connection_id: bytes) -> bytes:
    return request.method


def _bearer_token(request: Request, address: bytes, connection_id: bytes) -> bytes:
    """Return the token of ``Authorization`` (RFC 6750 section 2.1)."""
    value = next(_values(request, b"authorization"), b"")
    return value[len(_BEARER) :].strip(b" ") if value.lower().startswith(_BEARER) else b""


_PLAIN: Final[dict[str, Extract]] = {
    "path": _path,
    "authority": _authority,
    "method": _method,
    "cid": lambda request, address, connection_id: connection_id,
    "client_ip": lambda request, address, connection_id: address,
    "bearer_token": _bearer_token,
}


def _header(name: str) -> Extract:
    """Return what takes the value of a field, the first if there are several."""
    wanted = name.lower().encode()
    if wanted == b"host":
        # The validator took it out of the fields: it is the authority.
        return _authority
    return lambda request, address, connection_id: next(_values(request, wanted), b"")


def _cookie(name: str) -> Extract:
    """Return what takes the value of a cookie, the first if there are several.

    HTTP/2 and HTTP/3 may have each in a field of its own (RFC 9113 section 8.2.3).
    """
    wanted = name.encode()

    def extract(request: Request, address: bytes, connection_id: bytes) -> bytes:
        for field in _values(request, b"cookie"):
            for pair in field.split(b";"):
                key, equals, value = pair.partition(b"=")
                if equals and key.strip(b" \t") == wanted:
                    return value.strip(b" \t")
        return b""

    return extract


def _query(name: str) -> Extract:
    """Return what takes the value of a parameter of the query, the first if there are several.

    Two spellings of a value are one: ``%61`` is ``a``, and ``+`` a space.
    """
    wanted = name.encode()

    def extract(request: Request, address: bytes, connection_id: bytes) -> bytes:
        for pair in (request.query or b"").split(b"&"):
            key, _, value = pair.partition(b"=")
            if _decoded(key) == wanted:
                return _decoded(value)
        return b""

    return extract


_NAMED: Final[dict[str, Callable[[str], Extract]]] = {
    "header": _header,
    "cookie": _cookie,
    "query": _query,
}


def _values(request: Request, name: bytes) -> Iterator[bytes]:
    """Yield the values of a field."""
    return (value for key, value in request.fields if key == name)


def _decoded(text: bytes) -> bytes:
    """Decode a name or a value of a form."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text
