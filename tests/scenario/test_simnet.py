"""The simulated network does to datagrams what its link says, and nothing else."""

from spooky.protocol.quic.packet import PacketHeader
from spooky.protocol.quic.session import Address, Datagram
from tests.simnet import CLIENT, SERVER, Link, Network


def nobody(first: Datagram, header: PacketHeader, now: float) -> None:
    """Accept no connection."""


def arrivals(link: Link, *sizes: int, ecn: int = 0) -> list[tuple[int, int]]:
    """Send datagrams at once, and return size and ECN bits of those that arrive."""
    network = Network(5, link)
    host = network.add_server(nobody)
    for size in sizes:
        network.send(bytes(size), CLIENT, SERVER, ecn)
    network.run(seconds=10)
    return [(len(datagram.payload), datagram.ecn) for datagram in host.received]


def test_the_network_loses_reorders_and_duplicates_as_told() -> None:
    network = Network(5, Link(loss=0.5, duplicate=0.5, reorder=0.5))
    host = network.add_server(nobody)
    for number in range(1000):
        network.send(bytes((number >> 8, number & 255)), CLIENT, SERVER)
    network.run(seconds=1)
    got = [datagram.payload for datagram in host.received]
    assert 600 < len(got) < 900
    assert 400 < len(set(got)) < 600
    assert got != sorted(got)


def test_a_path_carries_what_fits_it() -> None:
    assert arrivals(Link(mtu=1300), 1200, 1301, 1300) == [(1200, 0), (1300, 0)]


def test_a_full_queue_drops_what_comes_on_top() -> None:
    assert len(arrivals(Link(rate=1000, queue=350), *[100] * 10)) == 3
    assert len(arrivals(Link(rate=1000), *[100] * 10)) == 10


def test_a_rate_is_shared_by_those_who_send_the_same_way() -> None:
    network = Network(5, Link(rate=1000, latency=0))
    hosts = [network.add_server(nobody, (f"198.51.100.{n}", 443)) for n in range(2)]
    other: Address = ("192.0.2.99", 1)
    for source in (CLIENT, other):
        for host in hosts:
            network.send(bytes(250), source, host.address)
    network.send(bytes(1000), hosts[0].address, CLIENT)
    assert network.run(lambda: all(len(host.received) == 2 for host in hosts), 5)
    assert round(network.now - 1000.0, 6) == 1.0


def test_marks_replace_ecn_capable_ones_only() -> None:
    marked = [ecn for _, ecn in arrivals(Link(mark=0.5), *[100] * 100, ecn=2)]
    assert set(marked) == {2, 3}
    assert {ecn for _, ecn in arrivals(Link(mark=0.5), *[100] * 100)} == {0}
    assert {ecn for _, ecn in arrivals(Link(mark=0.5, bleach=True), *[100] * 100, ecn=2)} == {0}
