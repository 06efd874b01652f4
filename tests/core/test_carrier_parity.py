"""The compiled carrier of a TCP connection's bytes and its twin do the same, whatever comes.

One source makes both, but for the system calls. And what holds on both sides: no byte is lost or
given twice, a protocol is told once that it is over, and nothing is watched after that.
"""

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import carrier, tcp, turns
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

COMPILED = {"turns": turns, "tcp": tcp, "carrier": carrier}
TWINS = twins(*COMPILED)

HIGH = 20_000
SIZES = st.sampled_from([1, 100, 4096, 30_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["peer sends", "peer takes", "say"]), SIZES),
        st.tuples(st.just("want_read"), st.booleans()),
        st.tuples(st.just("stays open"), st.booleans()),
        st.tuples(st.just("under way"), st.sampled_from([0, turns.FEW, turns.FEW + 1])),
        st.sampled_from([("readable",), ("writable",), ("turn",), ("turn",)]),
        st.sampled_from([("peer ends",), ("peer is gone",), ("break",), ("finish",)]),
        st.sampled_from([("close",), ("abort",)]),
        st.tuples(st.just("pass"), st.sampled_from([1.0, carrier.CLOSE_SECONDS])),
    ),
    max_size=30,
)


class World:
    """A loop, a session and a protocol that note what is asked of them, and a real socket.

    Arguments:
        kernels: The kernels to try.
    """

    def __init__(self, kernels: dict[str, Any]) -> None:
        self.log: list[Any] = []
        self.soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.reader: Callable[[], None] | None = None
        self.writer: Callable[[], None] | None = None
        own, self.peer = socket.socketpair()
        for each in (own, self.peer):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.output: deque[bytes] = deque()
        self.received = self.said = self.taken = self.sent = 0
        self.want_read = self.stays_open = True
        self.closed = self.is_broken = False
        self.told_lost = 0

        class Turns(kernels["turns"].Turns):  # type: ignore[misc]
            def report(this, broken: object) -> None:
                self.log.append("reported")

        self.time = 1.0
        self.due: Callable[[], None] | None = None
        runtime = self.runtime = Turns(self, lambda: self.time, 0.001)
        self.carrier = kernels["carrier"].Carrier(runtime)
        self.transport = kernels["carrier"].SocketTransport(runtime, own, self.carrier, self)
        self.own = own
        self.transport.start()

    # --- the loop ---

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[[], None]) -> "World":
        self.due = callback
        return self

    def cancel(self) -> None:
        self.due = None

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        if self.due is not None:
            self.due()

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        assert self.reader is None
        self.reader = callback

    def remove_reader(self, descriptor: int) -> None:
        self.reader = None

    def add_writer(self, descriptor: int, callback: Callable[[], None]) -> None:
        assert self.writer is None
        self.writer = callback

    def remove_writer(self, descriptor: int) -> None:
        self.writer = None

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            callback, arguments = self.soon.popleft()
            callback(*arguments)

    # --- the protocol ---

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=HIGH)
        self.carrier.carry(transport, self, self)

    def eof_received(self) -> bool:
        self.log.append("at its end")
        return self.stays_open

    def connection_lost(self, error: Exception | None) -> None:
        self.told_lost += 1
        self.log.append(("lost", type(error).__name__))
        self.carrier.let_go()

    def pause_writing(self) -> None:
        assert self.transport.get_write_buffer_size() > HIGH
        self.log.append("hold back")

    def resume_writing(self) -> None:
        assert self.transport.get_write_buffer_size() <= HIGH // carrier.LOW_SHARE
        self.log.append("go on")

    def on_progress(self) -> None:
        self.log.append("progress")

    def end(self) -> None:
        self.log.append("end")
        self.transport.close()

    # --- the session ---

    def receive(self, data: bytes, now: float) -> None:
        self.received += len(data)
        self.log.append(("received", len(data), now))
        if self.is_broken:
            raise ValueError

    def transmit(self) -> bytes:
        if not self.output:
            return b""
        data = self.output.popleft()
        self.said += len(data)
        return data

    # --- what happens ---

    def step(self, act: str, *what: Any) -> None:
        if act == "peer sends":
            try:
                self.sent += self.peer.send(bytes(what[0]))
            except OSError:
                self.log.append("not sent")
        elif act == "peer takes":
            self.take(what[0])
        elif act == "say":
            self.output.append(bytes(what[0]))
            self.carrier.wake()
        elif act == "want_read":
            self.want_read = what[0]
            self.carrier.wake()
        elif act == "stays open":
            self.stays_open = what[0]
        elif act == "under way":
            self.runtime.under_way = what[0]
        elif act == "readable" and self.reader is not None:
            self.reader()
        elif act == "writable" and self.writer is not None:
            self.writer()
        elif act == "turn":
            self.turn()
        elif act == "peer ends" and self.peer.fileno() >= 0:
            try:
                self.peer.shutdown(socket.SHUT_WR)
            except OSError:
                self.log.append("ended before")
        elif act == "peer is gone":
            self.peer.close()
        elif act == "break":
            self.is_broken = True
        elif act == "finish":
            self.closed = True
            self.carrier.wake()
        elif act == "close":
            self.transport.close()
        elif act == "abort":
            self.transport.abort()
        elif act == "pass":
            self.pass_time(*what)
        self.log.append((
            act, self.transport.get_write_buffer_size(), self.transport.is_closing(),
            self.reader is not None, self.writer is not None, len(self.soon),
        ))  # fmt: skip

    def take(self, count: int) -> int:
        """Have the peer read; return how much it got."""
        try:
            got = len(self.peer.recv(count))
        except OSError:
            return 0
        self.taken += got
        return got


def live(kernels: dict[str, Any], steps: list[tuple[Any, ...]]) -> World:
    """Have a connection live through steps."""
    world = World(kernels)
    world.turn()
    for step in steps:
        world.step(*step)
    return world


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_carriers(steps: list[tuple[Any, ...]]) -> None:
    worlds = [live(kernels, steps) for kernels in (COMPILED, TWINS)]
    assert worlds[0].log == worlds[1].log
    for world in worlds:
        world.transport.abort()
        while world.soon:
            world.turn()
        assert (world.told_lost, world.reader, world.writer) == (1, None, None)
        assert world.own.fileno() == -1
        world.peer.close()


@pytest.mark.parametrize("kernels", [COMPILED, TWINS], ids=["compiled", "twin"])
@pytest.mark.parametrize("is_closed_first", [False, True])
def test_whatever_is_written_comes_in_whole(kernels: dict[str, Any], is_closed_first: bool) -> None:
    world = live(kernels, [("say", 30_000), ("say", 100), ("say", 30_000), ("turn",)])
    assert "hold back" in world.log
    if is_closed_first:
        world.transport.close()
    while world.take(5000) or world.writer is not None:
        if world.writer is not None:
            world.writer()
        world.turn()
    assert world.taken == world.said == 60_100
    assert ("go on" in world.log, world.told_lost) == (True, is_closed_first)
    world.transport.abort()
    world.turn()
    world.peer.close()


@pytest.mark.parametrize("kernels", [COMPILED, TWINS], ids=["compiled", "twin"])
def test_a_peer_that_reads_nothing_is_not_waited_for_longer_than_that(
    kernels: dict[str, Any],
) -> None:
    world = live(kernels, [("say", 60_000), ("turn",), ("close",)])
    world.pass_time(carrier.CLOSE_SECONDS - 1)
    world.turn()
    assert (world.told_lost, world.writer is not None) == (0, True)
    world.pass_time(2)
    world.turn()
    assert (world.told_lost, world.writer, world.own.fileno()) == (1, None, -1)
    world.peer.close()


@pytest.mark.parametrize("kernels", [COMPILED, TWINS], ids=["compiled", "twin"])
@pytest.mark.parametrize(
    ("under_way", "is_at_once"), [(0, True), (turns.FEW, True), (turns.FEW + 1, False)]
)
def test_of_few_under_way_each_is_answered_at_once_and_of_more_at_the_end_of_the_turn(
    kernels: dict[str, Any], under_way: int, is_at_once: bool
) -> None:
    world = live(kernels, [("under way", under_way), ("peer sends", 100)])
    world.output.append(b"answer")
    world.step("readable")
    assert (world.take(100), len(world.soon)) == ((6, 0) if is_at_once else (0, 1))
    world.turn()
    assert world.take(100) == (0 if is_at_once else 6)
    world.transport.abort()
    world.turn()
    world.peer.close()


@pytest.mark.parametrize("module", [tcp, TWINS["tcp"]], ids=["compiled", "twin"])
def test_system_calls_say_what_happened(module: Any) -> None:
    own, peer = socket.socketpair()
    own.setblocking(False)
    descriptor = own.fileno()
    assert module.receive(descriptor) is None
    assert module.send(descriptor, b"abcdef", 2) == 4
    assert peer.recv(10) == b"cdef"
    for start in (-1, 7):
        with pytest.raises(ValueError, match="outside of the data"):
            module.send(descriptor, b"abcdef", start)
    while module.send(descriptor, bytes(65_536), 0):
        pass
    peer.close()
    with pytest.raises(BrokenPipeError):
        module.send(descriptor, b"more", 0)
    with pytest.raises(ConnectionResetError):
        # What the peer had not read is lost with it.
        module.receive(descriptor)
    assert module.receive(descriptor) == b""
    own.close()
    with pytest.raises(OSError, match="descriptor"):
        module.receive(descriptor)
