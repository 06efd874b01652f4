"""The sockets of a listener: what the kernel steers where."""

import random
import select
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from spooky.config.performance import Performance
from spooky.config.schema import Listener
from spooky.control.sockets import BindError, ListenerSockets, bind_listener, listen
from spooky.protocol.quic.steering import slot_of, steering_table

SLOTS = 4


@pytest.fixture
def sockets() -> Iterator[ListenerSockets]:
    table = steering_table(range(SLOTS))
    made = bind_listener(Listener(address="127.0.0.1", port=0), Performance(), SLOTS, table)
    assert made.steered
    listen(made)
    yield made
    made.close()


def arrivals(sockets: ListenerSockets, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield the slot and the payload of so many datagrams."""
    while count:
        readable, _, _ = select.select(sockets.udp, [], [], 5)
        assert readable, "a datagram is missing"
        for one in readable:
            yield sockets.udp.index(one), one.recv(2000)
            count -= 1


def datagram(seed: random.Random, slot: int | None, *, long: bool) -> bytes:
    first = seed.randrange(256) if slot is None else slot
    connection_id = bytes((first,)) + seed.randbytes(7)
    if long:
        return b"\xc3\0\0\0\1\x08" + connection_id + b"\0" + seed.randbytes(20)
    return b"\x41" + connection_id + seed.randbytes(20)


def send(sockets: ListenerSockets, payload: bytes) -> None:
    """Send from a port of its own, so that no address tells one slot."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(payload, sockets.address)


@pytest.mark.parametrize("active", [range(SLOTS), (1, 3)])
def test_every_datagram_reaches_the_slot_that_the_rule_names(
    sockets: ListenerSockets, active: range
) -> None:
    table = steering_table(active)
    assert sockets.steer(table)
    seed = random.Random(7)
    sent = [datagram(seed, seed.randrange(SLOTS), long=False) for _ in range(100)]
    sent += [datagram(seed, None, long=True) for _ in range(200)]
    for payload in sent:
        send(sockets, payload)
    arrived = list(arrivals(sockets, len(sent)))
    assert {payload for _, payload in arrived} == set(sent)
    assert [(slot, payload) for slot, payload in arrived if slot != slot_of(payload, table)] == []


def test_a_swapped_program_moves_new_connections_and_no_live_ones(sockets: ListenerSockets) -> None:
    sockets.steer(steering_table(range(SLOTS)))
    live = b"\x41\x02 live"
    send(sockets, live)
    assert list(arrivals(sockets, 1)) == [(2, live)]
    sockets.steer(steering_table((0, 1), (2,)))
    send(sockets, live)
    assert list(arrivals(sockets, 1)) == [(2, live)]
    seed = random.Random(8)
    for _ in range(50):
        send(sockets, datagram(seed, None, long=True))
    assert {slot for slot, _ in arrivals(sockets, 50)} == {0, 1}


def test_a_group_that_grew_gives_new_sockets_nothing_until_the_program_says_so(
    sockets: ListenerSockets,
) -> None:
    sockets.grow(2 * SLOTS, Performance())
    seed = random.Random(10)
    for long in (True, False):
        for _ in range(100):
            send(sockets, datagram(seed, None, long=long))
    assert {slot for slot, _ in arrivals(sockets, 200)} == set(range(SLOTS))
    sockets.steer(steering_table(range(SLOTS, 2 * SLOTS), range(SLOTS)))
    for _ in range(100):
        send(sockets, datagram(seed, None, long=True))
    slots = Counter(slot for slot, _ in arrivals(sockets, 100))
    assert sum(slots[slot] for slot in range(SLOTS, 2 * SLOTS)) > 90
    for slot in range(2 * SLOTS):
        send(sockets, datagram(seed, slot, long=False))
    assert {slot for slot, _ in arrivals(sockets, 2 * SLOTS)} == set(range(2 * SLOTS))


def test_a_slot_beyond_the_group_and_a_short_datagram_still_arrive(
    sockets: ListenerSockets,
) -> None:
    sockets.steer(steering_table(range(SLOTS)))
    for payload in (b"\x41\xc8 beyond the group", b"\x41", b"\xc0\0\0\0\1"):
        send(sockets, payload)
    assert {payload for _, payload in arrivals(sockets, 3)} == {
        b"\x41\xc8 beyond the group", b"\x41", b"\xc0\0\0\0\1",
    }  # fmt: skip


def test_new_connections_are_spread_within_a_fifth_of_even(sockets: ListenerSockets) -> None:
    sockets.steer(steering_table(range(SLOTS)))
    seed = random.Random(9)
    shares: Counter[int] = Counter()
    for _ in range(20):
        for _ in range(100):
            send(sockets, datagram(seed, None, long=True))
        shares.update(slot for slot, _ in arrivals(sockets, 100))
    assert max(shares.values()) <= 1.2 * 2000 / SLOTS
    assert min(shares.values()) >= 0.8 * 2000 / SLOTS


def test_a_port_cannot_be_shared_with_another_supervisor(sockets: ListenerSockets) -> None:
    host, port = sockets.address
    with pytest.raises(BindError, match="in use"):
        bind_listener(
            Listener(address=host, port=port), Performance(), SLOTS, steering_table(range(SLOTS))
        )


def test_a_socket_without_a_group_takes_no_program_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = bind_listener(Listener(address="127.0.0.1", port=0), Performance())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
        broken = ListenerSockets([unbound], alone.tcp)
        assert not broken.steer(steering_table(range(2)))
    alone.close()
    assert "hand them over" in caplog.text


def test_buffers_of_bound_sockets_can_be_changed(sockets: ListenerSockets) -> None:
    """So that a listener need not be bound anew; Linux reports twice what was asked: socket(7)."""
    for size in (65_536, 98_304):
        sockets.use_buffers(
            Performance(udp_recv_buffer_bytes=size, udp_send_buffer_bytes=size + 4_096)
        )
        for one in sockets.udp:
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * size
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * (size + 4_096)


def test_a_listener_that_drains_still_says_where_it_is(sockets: ListenerSockets) -> None:
    address = sockets.address
    sockets.tcp.close()
    assert sockets.address == address


def test_all_of_ipv4_and_an_address_of_ipv6_do_not_overlap() -> None:
    made = bind_listener(Listener(address="0.0.0.0", port=0), Performance())
    port = made.address[1]
    assert not made.overlaps("::1", port)
    bind_listener(Listener(address="::1", port=port), Performance()).close()
    for address in ("0.0.0.0", "127.0.0.1", "::ffff:127.0.0.1", "::"):
        assert made.overlaps(address, port)
        assert not made.overlaps(address, port + 1)
    made.close()
