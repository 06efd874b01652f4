"""What becomes of new connections by where they come from, before they cost anything."""

import socket
from collections.abc import Iterable
from typing import Final

from spooky.config.source_rules import SourceAction, SourceRule

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one: RFC 4291 section 2.5.5.2."""

_ADDRESS_BITS: Final = {4: 32, 16: 128}


class SourceRules:
    """Rules of which the first that matches an address holds.

    A look-up costs as much as there are different lengths of prefixes, however many rules there
    are: each length has a table of its own.

    Arguments:
        rules: In their order.
    """

    __slots__ = ("_tables",)

    def __init__(self, rules: Iterable[SourceRule] = ()) -> None:
        # By the length of an address in bytes, and of prefixes in bits not looked at.
        tables: dict[int, dict[int, dict[int, tuple[int, SourceAction]]]] = {4: {}, 16: {}}
        for number, (action, network) in enumerate(rules):
            packed = network.network_address.packed
            ignored = _ADDRESS_BITS[len(packed)] - network.prefixlen
            prefix = int.from_bytes(packed, "big") >> ignored
            table = tables[len(packed)].setdefault(ignored, {})
            table.setdefault(prefix, (number, action))
        self._tables = {size: tuple(table.items()) for size, table in tables.items() if table}

    def action(self, address: str) -> SourceAction | None:
        """Return what is done with connections from an address; ``None`` if no rule says.

        Arguments:
            address: As the socket module gives it; a mapped IPv4 address is one of IPv4.
        """
        if not self._tables:
            return None
        packed = _packed(address)
        number = int.from_bytes(packed, "big")
        first: tuple[int, SourceAction] | None = None
        for ignored, table in self._tables.get(len(packed), ()):
            found = table.get(number >> ignored)
            if found is not None and (first is None or found < first):
                first = found
        return None if first is None else first[1]


def _packed(address: str) -> bytes:
    if ":" not in address:
        return socket.inet_aton(address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed


NO_RULES: Final = SourceRules()
