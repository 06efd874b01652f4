"""Which address of a forwarding field is the client's."""

import pytest

from spooky.config.client_address import ClientAddress
from spooky.request.client_address import HOPS_MAX, Place, TrustedProxies, parse_place

PEER = ("10.0.0.1", 4000)


def client(header: str, *values: bytes, peer: Place = PEER) -> Place:
    proxies = TrustedProxies(ClientAddress(("10.0.0.0/8", "2001:db8:1::/48"), header))
    fields = [(header.encode(), value) for value in values]
    return proxies.client_of(peer, [(b"host", b"a.test"), *fields])


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((), PEER),
        ((b"203.0.113.9",), ("203.0.113.9", 0)),
        ((b"198.51.100.1, 203.0.113.9",), ("203.0.113.9", 0)),
        ((b"198.51.100.1, 203.0.113.9, 10.2.3.4 ,10.0.0.2",), ("203.0.113.9", 0)),
        ((b"198.51.100.1", b"203.0.113.9", b"10.0.0.2"), ("203.0.113.9", 0)),
        ((b"10.0.0.9, 10.0.0.8",), ("10.0.0.9", 0)),
        ((b"203.0.113.9:4711",), ("203.0.113.9", 4711)),
        ((b"2001:DB8::9",), ("2001:db8::9", 0)),
        ((b"[2001:db8::9]:81, 2001:db8:1::2",), ("2001:db8::9", 81)),
        ((b"::ffff:203.0.113.9, ::ffff:10.0.0.3",), ("203.0.113.9", 0)),
        # Whoever wrote what cannot be read is the last who is known.
        ((b"203.0.113.9, nonsense, 10.0.0.2",), ("10.0.0.2", 0)),
        ((b"203.0.113.9,",), PEER),
        ((b"nonsense",), PEER),
        ((b"fe80::1%eth0",), PEER),
    ],
)
def test_the_last_address_that_is_not_trusted_is_the_clients(
    values: tuple[bytes, ...], found: Place
) -> None:
    assert client("x-forwarded-for", *values) == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((b"for=203.0.113.9",), ("203.0.113.9", 0)),
        ((b"for=198.51.100.1, For=203.0.113.9;proto=https;by=10.0.0.1",), ("203.0.113.9", 0)),
        ((b'for="[2001:db8::9]:4711";host="a,b;c", for=10.0.0.2',), ("2001:db8::9", 4711)),
        ((b'for="203.0.113.9:_obscure"',), ("203.0.113.9", 0)),
        ((b"for=198.51.100.1", b"for=203.0.113.9"), ("203.0.113.9", 0)),
        ((b"for=203.0.113.9, for=unknown, for=10.0.0.2",), ("10.0.0.2", 0)),
        ((b"for=203.0.113.9, proto=https",), PEER),
        # A client that opens a quote swallows what the proxy appends, and is not believed.
        ((b'for=203.0.113.9;by=", for=198.51.100.1',), PEER),
        ((b'for=203.0.113.9;by=", for="[2001:db8::5]"',), PEER),
        ((b"for=203.0.113.9;for=198.51.100.1",), PEER),
        ((b"for=203.0.113.9:80",), PEER),
        ((b"203.0.113.9",), PEER),
        ((b"for=203.0.113.9,",), PEER),
        ((b'for="203.0.113.9', b"for=10.0.0.2"), ("10.0.0.2", 0)),
    ],
)
def test_forwarded_is_read_by_its_grammar(values: tuple[bytes, ...], found: Place) -> None:
    assert client("forwarded", *values) == found


def test_a_chain_of_proxies_is_followed_only_so_far() -> None:
    value = b", ".join([b"203.0.113.9", *[b"10.0.0.2"] * HOPS_MAX])
    assert client("x-forwarded-for", value) == ("10.0.0.2", 0)


def test_nobody_is_believed_unless_configured() -> None:
    assert TrustedProxies(ClientAddress()).speaks_for("127.0.0.1") is None
    assert not TrustedProxies(ClientAddress()).refuses("127.0.0.1")
    proxies = TrustedProxies(ClientAddress(("10.0.0.0/8",), "forwarded"))
    assert proxies.speaks_for("::ffff:10.1.1.1") is proxies
    assert proxies.speaks_for("203.0.113.9") is proxies.speaks_for("fe80::1%lo") is None
    assert TrustedProxies(ClientAddress(("10.0.0.0/8",))).speaks_for("10.0.0.1") is None


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "[1.2.3.4]", "[::1", "::1]:80", "1.2.3.4:", "[::1]x"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_place(text) is None


@pytest.mark.parametrize("network", ["192.0.2.0/24", "::ffff:192.0.2.0/120", "::ffff:0:0/96"])
def test_a_network_of_mapped_addresses_is_one_of_ipv4(network: str) -> None:
    proxies = TrustedProxies(ClientAddress(trusted_cidrs=(network,), header="forwarded"))
    assert proxies.trusts("192.0.2.7")
    assert proxies.trusts("::ffff:192.0.2.7")
    assert proxies.trusts("203.0.113.7") is (network == "::ffff:0:0/96")
    assert not proxies.trusts("2001:db8::7")
