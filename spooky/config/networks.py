"""Networks of addresses as operators write them."""

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from spooky.config.problems import InvalidValueError, quoted

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 addresses written as IPv6 ones (RFC 4291 section 2.5.5.2)."""

_ALL_IPV6: Final = ipaddress.IPv6Network("::/0")


class NetworkTable:
    """Networks, each known by its place, of which the first that has an address is found.

    A look-up costs as much as there are different lengths of prefixes, however many networks there
    are: each length has a table of its own.

    Arguments:
        networks: In their order.
    """

    __slots__ = ("_tables",)

    def __init__(self, networks: Iterable[Network]) -> None:
        # By the length of an address in bytes, and of prefixes in bits not looked at.
        tables: dict[int, dict[int, dict[int, int]]] = {4: {}, 16: {}}
        for place, network in enumerate(networks):
            packed = network.network_address.packed
            ignored = _ignored_bits(network)
            table = tables[len(packed)].setdefault(ignored, {})
            table.setdefault(int.from_bytes(packed, "big") >> ignored, place)
        self._tables = {size: tuple(table.items()) for size, table in tables.items()}

    def first(self, packed: bytes, ignored_min: int = 0) -> int | None:
        """Return the place of the first network that has an address; ``None`` if none has.

        Arguments:
            packed: The address, in 4 or 16 bytes.
            ignored_min: How many bits a network leaves open at least.
        """
        number = int.from_bytes(packed, "big")
        first: int | None = None
        for ignored, table in self._tables[len(packed)]:
            if ignored >= ignored_min:
                found = table.get(number >> ignored)
                if found is not None and (first is None or found < first):
                    first = found
        return first

    def first_around(self, network: Network) -> int | None:
        """Return the place of the first network that has all of another; ``None`` if none has."""
        return self.first(network.network_address.packed, _ignored_bits(network))


def _ignored_bits(network: Network) -> int:
    return network.max_prefixlen - network.prefixlen


def parse_address(text: str) -> Address:
    """Return the address that a text says, without its zone; a mapped one is one of IPv4.

    Raises:
        ValueError: It says none.
    """
    return unmapped(ipaddress.ip_address(text.partition("%")[0]))


def unmapped(address: Address) -> Address:
    """Return an address, or that of IPv4 that it stands for."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def overlap(one: Address, other: Address) -> bool:
    """Return whether some address is an address of both; ``::`` takes IPv4 too.

    Arguments:
        one: To be bound or bound, and no mapped one.
        other: Likewise.
    """
    return one == other or any(
        wide.is_unspecified and wide.version >= narrow.version
        for wide, narrow in ((one, other), (other, one))
    )


def parse_network(text: str) -> Network:
    """Return the network that a text says; one of mapped IPv4 addresses is one of IPv4.

    Addresses are looked up as IPv4 wherever they can be: a mapped network would match none.

    Raises:
        InvalidValueError: It says none, or one that is in part of mapped addresses. ``::/0`` is all
            of IPv6, and nothing of IPv4.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidValueError(
            f"{quoted(text)} is not a network",
            "write one such as 10.1.0.0/16, with no bits set beyond its length",
        ) from error
    if isinstance(network, ipaddress.IPv4Network):
        return network
    if network.subnet_of(_MAPPED):
        packed = network.network_address.packed[-4:]
        return ipaddress.IPv4Network((packed, network.prefixlen - _MAPPED.prefixlen))
    if network.supernet_of(_MAPPED) and network != _ALL_IPV6:
        raise InvalidValueError(
            f"{quoted(text)} has all IPv4 addresses in it, written as IPv6",
            "write 0.0.0.0/0 for them, ::/0 for all of IPv6, or a longer prefix",
        )
    return network
