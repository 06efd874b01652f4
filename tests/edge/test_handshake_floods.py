"""Handshakes wait for established connections, not these for them (attack 13)."""

import asyncio
from pathlib import Path

from spooky._core import reasons
from spooky._core.dispatch import (
    DATAGRAMS_PER_TURN,
    HANDSHAKES_PER_TURN,
    WAITING_MAX,
    HandshakeQueue,
)
from spooky.edge.quic import QuicListener
from spooky.edge.quic_connection import QuicConnection
from spooky.protocol.quic.packet import PacketHeader, PacketType, parse_header
from spooky.protocol.quic.session import ReceivedDatagram, Transmit
from tests.edge.test_datagrams import listener_of
from tests.edge.test_ingress import run_with
from tests.edge.test_stateless import RawClient, refused, wire
from tests.support.proxy import Setup

SOURCE = ("127.0.0.1", 1)


class Script:
    """A socket that gives what a test says, in reads of the usual size."""

    def __init__(self, udp: object, datagrams: list[ReceivedDatagram]) -> None:
        self._udp = udp
        self.left = datagrams

    def __getattr__(self, name: str) -> object:
        return getattr(self._udp, name)

    def receive(self, count: int) -> list[ReceivedDatagram]:
        taken, self.left = self.left[:count], self.left[count:]
        return taken


class Log:
    """What a listener does, in order, in place of doing it."""

    def __init__(self, listener: QuicListener) -> None:
        self.entries: list[str] = []
        self.delivered: list[bytes] = []
        listener._begin = self.begin
        for connection in listener._connections:
            connection._quic = self

    terminated = draining = False

    def flush(self, now: float) -> list[Transmit]:
        return []

    def deadline(self) -> None:
        return None

    def figures(self) -> None:
        return None

    take_dropped = figures

    def begin(self, datagram: ReceivedDatagram, header: PacketHeader, now: float) -> None:
        self.entries.append("begin")

    def receive(self, batch: list[ReceivedDatagram], now: float) -> None:
        self.entries.append("receive")
        self.delivered += [payload for payload, _, _ in batch]


async def established(setup: Setup) -> tuple[QuicListener, QuicConnection]:
    """Return a listener and its only connection, which is established on our side too."""
    await setup.client()
    listener = listener_of(setup)
    (connection,) = listener._connections
    while not connection.established:
        await asyncio.sleep(0)
    return listener, connection


def initials(count: int) -> list[ReceivedDatagram]:
    """Return Initial packets of so many clients; nobody reads beyond their headers here."""
    return [
        (b"\xc0\0\0\0\1\x08" + number.to_bytes(8, "big") + b"\0\0\x44\x00" + bytes(1200), SOURCE, 0)
        for number in range(count)
    ]


def to(connection: QuicConnection, mark: int) -> ReceivedDatagram:
    """Return a packet with a short header for a connection."""
    issued = next(
        each for each in connection._connection_ids if each != connection._client_initial_id
    )
    return b"\x40" + issued + bytes([mark]) * 30, SOURCE, 0


def test_packets_of_established_connections_pass_a_flood_of_initials(tmp_path: Path) -> None:
    """Those behind it in the socket too, and before the first handshake costs anything."""

    async def scenario(setup: Setup) -> None:
        listener, connection = await established(setup)
        flood = initials(4 * DATAGRAMS_PER_TURN)
        log = Log(listener)
        listener._udp = Script(listener._udp, [*flood, to(connection, 1)])
        listener._on_readable()
        assert log.entries == ["receive"]
        await asyncio.sleep(0)
        assert log.entries.count("begin") <= HANDSHAKES_PER_TURN
        while log.entries.count("begin") < len(flood):
            listener._udp.left = [to(connection, 2)]
            begun = log.entries.count("begin")
            listener._on_readable()
            assert log.entries[-1] == "receive"
            await asyncio.sleep(0)
            assert log.entries.count("begin") - begun <= HANDSHAKES_PER_TURN
        assert not listener._handshakes

    run_with(tmp_path, scenario)


def test_what_waited_for_a_handshake_goes_before_what_comes_after_it(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener, connection = await established(setup)
        log = Log(listener)
        early, late = to(connection, 1), to(connection, 2)
        connection.established = False
        listener._udp = Script(listener._udp, [early])
        listener._on_readable()
        connection.established = True
        assert log.delivered == []
        listener._udp.left = [late]
        listener._on_readable()
        assert log.delivered == [early[0], late[0]]

    run_with(tmp_path, scenario)


def test_what_waits_is_bounded_and_the_rest_is_dropped_and_counted(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener = listener_of(setup)
        log = Log(listener)
        flood = initials(WAITING_MAX + DATAGRAMS_PER_TURN)
        listener._udp = Script(listener._udp, flood)
        while listener._udp.left:
            listener._on_readable()
        assert len(listener._handshakes) == WAITING_MAX
        while listener._handshakes:
            await asyncio.sleep(0)
        assert log.entries.count("begin") == WAITING_MAX
        assert refused(setup, reasons.HANDSHAKE_BACKLOG) == DATAGRAMS_PER_TURN

    run_with(tmp_path, scenario)


def test_a_connection_begins_with_the_first_datagram_that_can(tmp_path: Path) -> None:
    """What came before it, out of order, must not keep it from being made."""

    async def scenario(setup: Setup) -> None:
        listener = listener_of(setup)
        client = RawClient()
        with wire(setup.proxy.port) as on:
            (first, *_) = client.begin(on)
            header = parse_header(first)
            assert header is not None
            assert header.type is PacketType.INITIAL
            short = first[:100]
            listener._udp = Script(listener._udp, [(short, on.address, 0), (first, on.address, 0)])
            listener._on_readable()
            await asyncio.sleep(0)
            assert refused(setup, reasons.BAD_PACKET) == 1
            (connection,) = listener._connections
            assert not connection.established

    run_with(tmp_path, scenario)


def opening(number: int) -> tuple[ReceivedDatagram, PacketHeader]:
    (datagram,) = initials(number + 1)[number:]
    header = parse_header(datagram[0])
    assert header is not None
    return datagram, header


def test_handshakes_under_way_have_room_of_their_own() -> None:
    """A flood of Initials takes none of what begun handshakes need to end."""
    queue = HandshakeQueue(capacity=2)
    assert [queue.add_opening(*opening(number)) for number in range(3)] == [True, True, False]
    assert [queue.add("one", (b"", SOURCE, 0)) for _ in range(3)] == [True, True, False]
    assert queue.next_under_way() == "one"
    assert queue.claim("one") == [(b"", SOURCE, 0)] * 2
    assert queue.next_under_way() is None
    assert queue.add("two", (b"", SOURCE, 0))
    assert queue.claim("two") == [(b"", SOURCE, 0)]
    assert queue.claim("two") == []
    assert queue.next_opening() == [opening(0)]
    assert queue.next_opening() == [opening(1)]
    assert queue.next_opening() is None
    assert len(queue) == 0
