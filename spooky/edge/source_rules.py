"""What becomes of new connections by where they come from, before they cost anything."""

import socket
from collections.abc import Iterable
from typing import Final

from spooky.config.networks import NetworkTable
from spooky.config.source_rules import SourceAction, SourceRule

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one: RFC 4291 section 2.5.5.2."""


class SourceRules:
    """Rules of which the first that matches an address holds; a look-up is one of networks.

    Arguments:
        rules: In their order.
    """

    __slots__ = ("_actions", "_networks")

    def __init__(self, rules: Iterable[SourceRule]) -> None:
        listed = list(rules)
        self._actions = [rule.action for rule in listed]
        self._networks = NetworkTable(rule.network for rule in listed)

    def action(self, address: str) -> SourceAction | None:
        """Return what is done with connections from an address; ``None`` if no rule says.

        Arguments:
            address: As the socket module gives it; a mapped IPv4 address is one of IPv4.
        """
        if not self._actions:
            return None
        place = self._networks.first(_packed(address))
        return None if place is None else self._actions[place]


def _packed(address: str) -> bytes:
    if ":" not in address:
        return socket.inet_aton(address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed
