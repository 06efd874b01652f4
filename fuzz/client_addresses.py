"""Where clients are by the fields of proxies that are trusted, which hold what clients wrote too.

The first byte chooses ``X-Forwarded-For`` or ``Forwarded``; the rest is its values, one on a line.
However they are written, nobody behind the first proxy that is not trusted is believed.
"""

import ipaddress
from collections.abc import Iterator

from spooky.config.client_address import ClientAddress
from spooky.request.client_address import Place, TrustedProxies, parse_place

TRUSTED = "10.0.0.0/8"
PEER: Place = ("10.0.0.1", 4711)
OUTSIDE = b"203.0.113.7"

NAMES = ("x-forwarded-for", "forwarded")
PROXIES = [
    TrustedProxies(ClientAddress(trusted_cidrs=(TRUSTED,), header=name))  # type: ignore[arg-type]
    for name in NAMES
]


def seeds() -> Iterator[bytes]:
    """Yield fields that are right, and some that are nearly."""
    for value in (
        b"203.0.113.7", b"203.0.113.7, 10.0.0.2", b"evil\n10.0.0.2", b"[2001:db8::1]:80, 10.0.0.3",
        b"203.0.113.7:80,, 10.0.0.2", b"::ffff:10.0.0.9", b"fe80::1%eth0",
        b", ".join([b"10.1.1.1"] * 40), b"\t10.0.0.2 ,", b"010.0.0.1", b"10.0.0.2:99999",
    ):  # fmt: skip
        yield b"\0" + value
    for value in (
        b"for=203.0.113.7", b'for="[2001:db8::1]:47011";proto=https, for=10.0.0.2', b"for=unknown",
        b'for="10.0.0.2\\";by=x', b"for=_hidden;for=10.0.0.1", b"proto=http\nfor=10.0.0.2",
        b'for="a,b"', b"For=10.0.0.2 , FOR=10.0.0.3", b'for="\\1\\0.0.0.2"', b"for=10.0.0.2;",
    ):  # fmt: skip
        yield b"\1" + value


def run(data: bytes) -> None:
    """Find the client, and have one more say who it is, who is not trusted."""
    chosen = (data[0] if data else 0) % len(NAMES)
    name, proxies = NAMES[chosen].encode(), PROXIES[chosen]
    fields = [(name, value) for value in data[1:].split(b"\n")]
    host, port = proxies.client_of(PEER, fields)
    assert str(ipaddress.ip_address(host)) == host
    assert 0 <= port <= 65_535
    # What an outsider wrote before is not even looked at, on a line of its own or on the last.
    said = b"for=" * (name == b"forwarded") + OUTSIDE
    expected = OUTSIDE.decode(), 0
    assert proxies.client_of(PEER, [*fields, (name, said)]) == expected
    if name == b"x-forwarded-for":
        joined = b", ".join([*(value for _, value in fields), said])
        assert proxies.client_of(PEER, [(name, joined)]) == expected
    place = parse_place(data[1:61].decode("latin-1"))
    assert place is None or str(ipaddress.ip_address(place[0])) == place[0]
