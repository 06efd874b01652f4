"""The compiled link of a client's HTTP/3 connection and its twin do the same, whatever comes.

One source makes both, so what is looked for is what C types change: ranges, truth, overriding.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import hand_off, quic_link, turns
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

COMPILED = {"turns": turns, "hand_off": hand_off, "quic_link": quic_link}
TWINS = twins(*COMPILED)

FLAGS = (
    "established", "terminated", "held_back", "drained", "is_broken", "ended", "ready", "pooled",
    "unsettled", "is_late", "unmendable", "is_over",
)  # fmt: skip
# How things are when it begins: for each flag whether it is set.
BEGINNINGS = st.tuples(*[st.tuples(st.just(name), st.booleans()) for name in FLAGS])
STEPS = st.lists(
    st.one_of(
        # Datagrams that came, or what the socket says instead.
        st.tuples(st.just("read"), st.integers(0, 3)),
        st.tuples(st.just("refuse"), st.sampled_from([0, errno.ECONNREFUSED, errno.EMSGSIZE])),
        st.tuples(st.just("deadline"), st.sampled_from([None, 0.1, 0.5, 2.0])),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.4, 3.0])),
        st.tuples(st.sampled_from(FLAGS), st.booleans()),
        st.tuples(
            st.sampled_from(["capacity", "active_streams", "_received_at_doubt"]),
            st.integers(0, 2),
        ),
        st.tuples(st.just("runs"), st.integers(0, 3)),
        st.sampled_from([("wake",), ("turn",)]),
        st.just(("turn",)),
    ),
    max_size=20,
)


class World:
    """A loop, a socket, sessions and a pool that note what is asked of them.

    Arguments:
        kernels: The kernels to try.
    """

    def __init__(self, kernels: dict[str, Any]) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.time = 10.0
        self.soon: deque[Callable[[], None]] = deque()
        self.later: list[tuple[float, Callable[[], None], list[bool]]] = []
        self.came: list[tuple[bytes, Any, int]] = []
        self.says = 0
        self.wanted: float | None = None
        self.established = self.terminated = self.is_broken = self.unsettled = False
        self.held_back = self.drained = self.is_late = self.unmendable = self.is_over = False
        self.capacity = self.active_streams = self.runs = 0
        self.link = link_of(kernels, self)

    # --- the loop ---

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        alive = [True]
        self.later.append((self.time + delay, callback, alive))
        return Handle(alive)

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def skip(self, seconds: float) -> None:
        self.time += seconds
        due, self.later = self.later, []
        for when, callback, alive in due:
            if when > self.time:
                self.later.append((when, callback, alive))
            elif alive[0]:
                self.run(callback)

    def run(self, callback: Callable[[], None]) -> None:
        """Call back as a loop does, which outlives what is raised."""
        try:
            callback()
        except LookupError:
            self.log.append(("raised",))

    # --- the socket ---

    def _complain(self) -> None:
        if self.says:
            raise OSError(self.says, "")

    def send(self, payload: bytes, segment_size: int, destination: Any, ecn: int) -> int:
        self.log.append(("send", payload, segment_size, destination, ecn))
        self._complain()
        return len(payload)

    # --- QUIC, for which the socket's part has another name, and HTTP/3 ---

    def receive(self, batch: Any, now: float | None = None) -> Any:
        if now is None:
            self._complain()
            came, self.came = self.came[:batch], self.came[batch:]
            return came
        self.log.append(("receive", batch, now))
        if self.is_broken:
            raise ValueError
        return None

    def flush(self, now: float) -> list[tuple[bytes, int, Any, int]]:
        self.log.append(("flush", now))
        runs, self.runs = self.runs, 0
        return [(b"run" * number, 3, "there", number) for number in range(runs)]

    def deadline(self) -> float | None:
        return None if self.wanted is None else self.time + self.wanted

    def expire(self, now: float) -> None:
        self.log.append(("expire", now))
        if self.is_late:
            raise ValueError
        self.terminated = self.terminated or self.is_over

    def settle(self) -> None:
        self.log.append(("settle",))
        if self.unsettled:
            raise ValueError

    # --- the pool ---

    def on_room(self, connection: Any) -> None:
        self.log.append(("room", connection is self.link))


class Handle:
    """A timer of the loop."""

    def __init__(self, alive: list[bool]) -> None:
        self._alive = alive

    def cancel(self) -> None:
        self._alive[0] = False


def link_of(kernels: dict[str, Any], world: World) -> Any:
    """Return a link of a kernel with the least of what extends it."""

    class Turns(kernels["turns"].Turns):  # type: ignore[misc]
        def report(self, broken: object) -> None:
            world.log.append(("reported", broken is world.link))

    class Link(kernels["quic_link"].Link):  # type: ignore[misc]
        def close(self) -> None:
            self._has_socket = False
            self._cancel_timer()
            world.log.append(("close",))

        def watch(self) -> None:
            world.log.append(("watch",))

        def on_unreachable(self, error: OSError) -> None:
            world.log.append(("unreachable", error.errno))

        def on_broken(self) -> None:
            world.log.append(("broken",))
            if world.unmendable:
                raise LookupError
            world.is_over, world.is_late = True, False

        def _forget_doubt(self) -> None:
            world.log.append(("no doubt",))

        def _finish(self) -> None:
            world.log.append(("finish",))
            self.wake()

        def _begin_idle(self) -> None:
            world.log.append(("idle",))
            self._idle_timer = "a timer"

    link = Link(Turns(world, lambda: world.time, 0.001), world, world)
    link.http3 = link.session = world
    return link


def live(kernels: dict[str, Any], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Have a link live through steps; return everything that came of it."""
    world = World(kernels)
    link = world.link
    for name, *arguments in steps:
        if name == "read":
            world.came = [(b"datagram", "there", number) for number in range(arguments[0])]
            world.run(link._on_readable)
        elif name == "refuse":
            world.says = arguments[0]
        elif name == "deadline":
            world.wanted = arguments[0]
        elif name == "pass":
            world.skip(arguments[0])
        elif name == "pooled":
            link.pool = world if arguments[0] else None
        elif name in ("ended", "ready", "_received_at_doubt"):
            setattr(link, name, arguments[0])
        elif name == "wake":
            link.wake()
        elif name == "turn":
            world.turn()
        else:
            setattr(world, name, arguments[0])
        timer = link._timer
        world.log.append((name, link.datagrams_received, None if timer is None else timer.deadline))
        world.log.append((world.held_back, len(world.soon), link._has_socket))
    return world.log


@settings(max_examples=300)
@given(BEGINNINGS, STEPS)
def test_links(beginning: tuple[Any, ...], steps: list[tuple[Any, ...]]) -> None:
    steps = [*beginning, *steps]
    assert live(COMPILED, steps) == live(TWINS, steps)


@pytest.mark.parametrize(
    "steps",
    [
        [("is_broken", True), ("read", 1)],
        [("is_broken", True), ("unmendable", True), ("read", 1), ("is_over", True)],
        [("is_late", True), ("wake",), ("turn",), ("pass", 1.0)],
        [("is_late", True), ("unmendable", True), ("wake",), ("turn",), ("pass", 1.0),
         ("is_late", False), ("is_over", True)],
        [("unsettled", True), ("is_over", True), ("wake",)],
    ],
    ids=["receive", "receive and its end", "expire", "expire and its end", "settle"],
)  # fmt: skip
def test_a_link_of_which_a_part_breaks_ends(steps: list[tuple[Any, ...]]) -> None:
    steps = [("deadline", 0.5), *steps, ("turn",), ("pass", 1.0), ("turn",)]
    log = live(COMPILED, steps)
    assert log == live(TWINS, steps)
    (_, _, deadline), (_, pending, has_socket) = log[-2:]
    assert (deadline, pending, has_socket) == (None, 0, False)
