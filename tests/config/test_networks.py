"""Networks of addresses: the first that has an address, or all of another network."""

import ipaddress
import random

import pytest

from spooky.config.networks import Network, NetworkTable, overlap, parse_address


def some_network(source: random.Random, version: int) -> Network:
    """Return a network of a few bits, so that many are within others."""
    bits = 32 if version == 4 else 128
    length = source.randrange(9)
    packed = (source.getrandbits(8) >> (8 - length) << (bits - length)).to_bytes(bits // 8)
    return ipaddress.ip_network((packed, length))


def test_look_ups_agree_with_going_through_the_networks_one_by_one() -> None:
    source = random.Random(5)
    for _ in range(200):
        networks = [some_network(source, source.choice((4, 6))) for _ in range(source.randrange(9))]
        table = NetworkTable(networks)
        for version in (4, 6):
            asked = some_network(source, version)
            places = [place for place, each in enumerate(networks) if asked.network_address in each]
            assert table.first(asked.network_address.packed) == next(iter(places), None)
            around = [place for place in places if networks[place].prefixlen <= asked.prefixlen]
            assert table.first_around(asked) == next(iter(around), None)


def test_addresses_are_those_of_ipv4_wherever_they_can_be() -> None:
    assert str(parse_address("::ffff:192.0.2.1%eth0")) == "192.0.2.1"
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
    assert str(parse_address("192.0.2.1")) == "192.0.2.1"
    with pytest.raises(ValueError, match="example"):
        parse_address("example.com")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("0.0.0.0", "::", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_addresses_overlap_that_the_kernel_would_not_bind_both(
    one: str, other: str, expected: bool
) -> None:
    addresses = parse_address(one), parse_address(other)
    assert overlap(*addresses) is overlap(*addresses[::-1]) is expected
