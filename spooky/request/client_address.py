"""Where a client is, by the word of the proxies before us that are trusted."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from spooky.config.client_address import ClientAddress
from spooky.config.networks import NetworkTable, parse_address, parse_network
from spooky.protocol.stream import Field

Place: TypeAlias = tuple[str, int]
"""An address and a port; the port is 0 where nobody said it."""

HOPS_MAX: Final = 32
"""Proxies that are followed from the right of a field; a longer chain is not met in practice."""

REMEMBERED_MAX: Final = 4096
"""Addresses that are remembered as trusted or not: parsing one costs 2 µs, and its look-up 0.1
µs for each length of prefixes that there is."""

_PORT: Final = re.compile(r"[0-9]{1,5}")
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR: Final = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')


class TrustedProxies:
    """The networks whose word a listener takes.

    Arguments:
        settings: The listener's.
    """

    def __init__(self, settings: ClientAddress) -> None:
        self._networks = NetworkTable(map(parse_network, settings.trusted_cidrs))
        self._known: dict[str, bool] = {}
        self._name = settings.header.encode()
        self._addresses: Callable[[bytes], Iterator[str] | None] = (
            _forwarded_for if settings.header == "forwarded" else _listed
        )
        self._uses_field = settings.header != "none"
        self.takes_header = settings.proxy_protocol != "off"
        self.requires_header = settings.proxy_protocol == "require"

    def trusts(self, address: str) -> bool:
        """Return whether an address, as the socket module gives it, is in one of the networks."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            known = self._known[address] = self._looks_up(address)
        return known

    def expects_header(self, address: str) -> bool:
        """Return whether whoever connects from an address has to send a PROXY header."""
        return self.takes_header and self.trusts(address)

    def refuses(self, address: str) -> bool:
        """Return whether connections from an address are refused, for want of a trusted proxy."""
        return self.requires_header and not self.trusts(address)

    def speaks_for(self, peer: str) -> "TrustedProxies | None":
        """Return itself if fields of requests from a peer are believed, else ``None``."""
        return self if self._uses_field and self.trusts(peer) else None

    def client_of(self, peer: Place, fields: Iterable[Field]) -> Place:
        """Return where the client of a request is.

        Arguments:
            peer: Where the request came from, which is trusted.
            fields: The request's, names in lowercase.

        Returns:
            The right-most place that is not trusted; if a field is malformed, the last before it.
        """
        values = [value for name, value in fields if name == self._name]
        found = peer
        hops = 0
        for value in reversed(values):
            addresses = self._addresses(value)
            if addresses is None:
                return found
            for text in addresses:
                place = parse_place(text)
                hops += 1
                if place is None or hops > HOPS_MAX:
                    return found
                found = place
                if not self.trusts(place[0]):
                    return found
        return found

    def _looks_up(self, address: str) -> bool:
        return self._networks.first(parse_address(address).packed) is not None


def parse_place(text: str) -> Place | None:
    """Read an address of a forwarding field, with or without a port; ``None`` if it is none.

    IPv6 may be in brackets, and has to be if a port follows (RFC 7239 section 6).
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
        if rest and not port:
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address), _port(port)
    return None if text.startswith("[") else (str(address), _port(port))


def _port(text: str) -> int:
    """Return a port; 0 for one that is not said, obfuscated or out of range."""
    number = int(text) if _PORT.fullmatch(text) else 0
    return number if number <= 65_535 else 0


def _listed(value: bytes) -> Iterator[str]:
    """Return the addresses of a value of ``X-Forwarded-For``, the last first."""
    parts = value.decode("latin-1").rsplit(",", HOPS_MAX)
    return (part.strip(" \t") for part in reversed(parts))


def _forwarded_for(value: bytes) -> Iterator[str] | None:
    """Return what the elements of a value of ``Forwarded`` say of ``for``, the last first.

    Returns:
        ``None`` if it is malformed anywhere: then who wrote what cannot be told (RFC 7239
        section 4).
    """
    text = value.decode("latin-1")
    found: list[str] = []
    node: str | None = None
    at = 0
    while True:
        at = _skip_space(text, at)
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        at = pair.end()
        if pair[1].lower() == "for":
            if node is not None:
                return None
            node = pair[2] if pair[2] is not None else re.sub(r"\\(.)", r"\1", pair[3])
        if text.startswith(";", at):
            at += 1
            continue
        at = _skip_space(text, at)
        found.append(node or "")
        node = None
        if at == len(text):
            return reversed(found)
        if text[at] != ",":
            return None
        at += 1


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at
