"""Networks of addresses as operators write them."""

import ipaddress
from typing import Final, TypeAlias

from spooky.config.problems import InvalidValueError, quoted

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 addresses written as IPv6 ones (RFC 4291 section 2.5.5.2)."""

_ALL_IPV6: Final = ipaddress.IPv6Network("::/0")


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
