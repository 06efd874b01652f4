"""The compiled dispatch of datagrams, its turns and their twins do the same, whatever comes.

One source makes both, so what is looked for is what C types change: ranges, truth, overriding. And
what holds on both sides: no datagram is lost or given twice but for those that are counted.
"""

from array import array
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import dispatch, turns
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

COMPILED = {"turns": turns, "dispatch": dispatch}
TWINS = twins(*COMPILED)
COUNTS = 6

Log = list[tuple[Any, ...]]

KINDS = ["initial", "early", "short", "wrapped", "bad"]

STEPS = st.lists(
    st.one_of(
        # Datagrams that come at once: of which connection, and what they are.
        st.tuples(
            st.just("read"),
            st.lists(
                st.tuples(
                    st.integers(0, 3),
                    st.sampled_from(KINDS),
                ),
                max_size=9,
            ),
        ),
        st.tuples(st.just("establish"), st.integers(0, 3)),
        st.tuples(st.just("forget"), st.integers(0, 3)),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(-1, 4)),
        st.tuples(st.just("under way"), st.sampled_from([0, turns.FEW, turns.FEW + 1])),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.4, 3.0])),
        st.tuples(st.just("room"), st.sampled_from([0, 1, 3, 5000])),
        st.tuples(st.just("deadline"), st.sampled_from([None, 0.1, 0.5, 2.0])),
        st.sampled_from([("refuse",), ("broken",), ("full",), ("unsettle",)]),
    ),
    max_size=40,
)


class World:
    """A loop, a socket and sessions that note what is asked of them.

    Arguments:
        kernels: The kernels to try.
    """

    def __init__(self, kernels: dict[str, Any]) -> None:
        self.log: Log = []
        self.time = 10.0
        self.soon: deque[Callable[[], None]] = deque()
        self.later: list[tuple[float, Callable[[], None], list[bool]]] = []
        self.came: list[tuple[bytes, Any, int]] = []
        self.broken = self.refuses = False
        # Whose session fails when it is given something, and whether none can be begun.
        self.fails = -1
        # Whether a session cannot settle, and whether one that fails cannot be ended.
        self.is_unsettled = self.is_endless = False
        self.gso = True
        self.coalesced = self.truncated = 0
        self.room = 5000
        self.wanted: float | None = 1.0
        self.values = array("Q", [0] * COUNTS)
        self.slots = 0
        self.writer: Callable[[], None] | None = None
        self.runtime = runtime_of(kernels["turns"])(self, lambda: self.time, 0.001)
        self.runtime.log = self.log
        self.listener = listener_of(kernels["dispatch"])(self.runtime, self, 7, self, None)
        self.listener.world = self
        self.kernel = kernels["dispatch"]

    # The loop's part.
    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        cancelled: list[bool] = []
        self.later.append((self.time + delay, callback, cancelled))
        return Handle(cancelled)

    def add_writer(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.log.append(("writer", descriptor))
        self.writer = callback

    def remove_writer(self, descriptor: int) -> None:
        self.writer = None

    # The socket's.
    def receive(self, count: int) -> list[tuple[bytes, Any, int]]:
        if self.broken:
            self.broken = False
            raise OSError("broken")
        taken, self.came = self.came[:count], self.came[count:]
        self.coalesced += len(taken) // 3
        return taken

    def send(self, payload: bytes, segment: int, destination: Any, ecn: int) -> int:
        if destination[0] == "refused":
            raise OSError("refused")
        taken = min(len(payload), self.room // segment * segment)
        self.room -= taken
        self.log.append(("sent", payload[:taken], segment, destination, ecn))
        return taken

    # The counters'.
    def slot(self, name: str) -> int:
        self.slots += 1
        return self.slots - 1

    # What happens.
    def turn(self) -> None:
        """Run what was to run soon, once, and timers that are due."""
        for _ in range(len(self.soon)):
            self.soon.popleft()()
        due = [each for each in self.later if each[0] <= self.time and not each[2]]
        self.later = [each for each in self.later if each not in due]
        for _, run, cancelled in due:
            if not cancelled:
                run()

    def step(self, act: str, *what: Any) -> None:
        """Have one thing happen."""
        listener = self.listener
        named = act in ("establish", "forget", "close")
        connection = listener._by_connection_id.get(bytes([what[0]]) * 8) if named else None
        if act == "read":
            self.came += [(datagram(*each), ("source", each[0]), 0) for each in what[0]]
            listener._on_readable()
        elif act == "full":
            self.came += [
                (datagram(number % 4, "initial"), ("many", 1), 0) for number in range(150)
            ]
            listener._on_readable()
        elif act == "establish" and connection is not None:
            connection.established = True
        elif act == "forget" and connection is not None:
            connection.forget()
        elif act == "close" and connection is not None:
            # Its client did; it has nothing to say, and its deadline is when it is over.
            self.wanted = self.wanted or 1.0
            connection._quic.draining = True
            connection.wake()
        elif act == "pass":
            self.time += what[0]
        elif act == "room":
            self.room = what[0]
            if self.writer is not None:
                self.writer()
        elif act == "deadline":
            self.wanted = what[0]
        elif act == "refuse":
            self.refuses = not self.refuses
        elif act == "unsettle":
            self.is_unsettled = not self.is_unsettled
        elif act == "fail":
            self.fails = what[0]
        elif act == "under way":
            self.runtime.under_way = what[0]
        elif act == "broken":
            self.broken = True
            listener._on_readable()
        elif act == "turn":
            self.turn()
        self.log.append((act, len(listener._handshakes), sorted(listener._by_connection_id)))


class Handle:
    def __init__(self, cancelled: list[bool]) -> None:
        self._cancelled = cancelled

    def cancel(self) -> None:
        self._cancelled.append(True)


class Session:
    """A QUIC session and its HTTP/3 session in one."""

    drained = terminated = draining = False

    def __init__(self, world: World, name: int) -> None:
        self._world = world
        self._name = name
        self._pending: list[bytes] = []
        self.budget = SimpleNamespace(glitches=name % 2)

    def receive(self, batch: list[Any], now: float) -> None:
        self._world.log.append(("receive", self._name, [each[0] for each in batch], now))
        self._pending += [each[0][:20] for each in batch]
        if self._world.fails == self._name:
            raise ZeroDivisionError

    def settle(self) -> None:
        self._world.log.append(("settle", self._name))
        if self._world.is_unsettled:
            raise ZeroDivisionError

    def flush(self, now: float) -> list[tuple[bytes, int, Any, int]]:
        pending, self._pending = b"".join(self._pending), []
        to = "refused" if self._name == 3 else "client"
        return [(pending, 20, (to, self._name), 0)] if pending else []

    def deadline(self) -> float | None:
        wanted = self._world.wanted
        return None if wanted is None else self._world.time + wanted

    def expire(self, now: float) -> None:
        self._world.log.append(("expire", self._name, now))
        if self._name == 2:
            self.terminated = True
        elif self._name == 1:
            raise ZeroDivisionError


def runtime_of(kernel: Any) -> Any:
    class Runtime(kernel.Turns):  # type: ignore[misc]
        def report(self, flushable: Any) -> None:
            self.log.append("could not flush")

    return Runtime


def listener_of(kernel: Any) -> Any:
    class Connection(kernel.Connection):  # type: ignore[misc]
        __slots__ = ("name",)

        def _judge(self, now: float) -> None:
            self._listener.world.log.append(("judge", now))

        def forget(self) -> None:
            if self._forgotten:
                return
            self._forgotten = True
            if self._late_until:
                self._listener.outlive(self._connection_ids, self._late_until)
            for connection_id in list(self._connection_ids):
                self.on_connection_id_retired(connection_id)
            self._cancel_timer()
            self._listener._connections.discard(self)

    class Listener(kernel.Listener):  # type: ignore[misc]
        def is_late(self, connection_id: bytes, now: float) -> bool:
            late: bool = super().is_late(connection_id, now)
            if late:
                self.world.log.append("late")
            return late

        def _begin(self, datagram: Any, header: Any, now: float) -> Any:
            name = header.destination_connection_id[0]
            self.world.log.append(("begin", name, now))
            if self.world.refuses:
                return None
            if self.world.fails == 4:
                raise ZeroDivisionError
            session = Session(self.world, name)
            connection = Connection(self, session)
            connection._http3 = session
            connection.on_connection_id_issued(header.destination_connection_id)
            self._connections.add(connection)
            return connection

        def _unwrap(self, datagram: Any) -> Any:
            self.world.log.append(("unwrap", datagram))
            rest = datagram[0][2:]
            return (rest, *datagram[1:]) if rest else None

        def _is_others(self, whole: Any, header: Any, source: Any, *came: bool) -> bool:
            self.world.log.append(("others", whole, source, came))
            return source == ("source", 0)

        def _keep_early(self, datagram: Any, header: Any, now: float) -> bool:
            self.world.log.append(("early", header.destination_connection_id, now))
            return header.destination_connection_id[0] == 1

        def _claim_early(self, connection_id: bytes) -> list[Any]:
            return [(b"early" * 5, ("source", 0), 0)]

        def _count(self, reason: Any) -> None:
            self.world.log.append(("count", reason))

        def _answer_unknown(self, header: Any, source: Any, now: float) -> None:
            self.world.log.append(("unknown", header.destination_connection_id, source, now))

        def _end_broken(self, connection: Any) -> None:
            self.world.log.append(("broken", connection._quic._name))
            if self.world.is_endless:
                raise ZeroDivisionError
            connection.wake()

        def _note_error(self, error: OSError, destination: Any) -> None:
            self.world.log.append(("error", str(error), destination))

    return Listener


def datagram(name: int, kind: str) -> bytes:
    """Return a datagram for a connection, as far as anybody reads it here."""
    connection_id = bytes([name]) * 8
    if kind == "bad":
        return b"\x40"
    if kind == "short":
        return b"\x40" + connection_id + bytes(30)
    if kind == "wrapped":
        return b"\r\n" + (b"\x40" + connection_id + bytes(30) if name else b"")
    first = b"\xc0" if kind == "initial" else b"\xd0"
    return first + b"\0\0\0\1\x08" + connection_id + b"\0" + bytes(30)


def outcome(world: World, act: str, *what: Any) -> str:
    """Have one thing happen; return what it raised."""
    try:
        world.step(act, *what)
    except ZeroDivisionError:
        return "raised"
    return ""


@given(STEPS)
@settings(deadline=None)
def test_whatever_comes_both_do_the_same(steps: list[tuple[Any, ...]]) -> None:
    worlds = World(COMPILED), World(TWINS)
    # Most is over within a turn; now and then more comes before.
    everything = [
        each
        for number, step in enumerate(steps)
        for each in ((step, ("turn",), ("turn",)) if number % 4 else (step,))
    ]
    for step in [*everything, ("turn",), ("pass", 3.0), ("turn",), ("turn",)]:
        assert outcome(worlds[0], *step) == outcome(worlds[1], *step)
        assert worlds[0].log == worlds[1].log
        assert worlds[0].values == worlds[1].values
    given_out = [
        sum(len(entry[2]) for entry in each.log if entry[0] == "receive") for each in worlds
    ]
    # What is late for a connection that its client closed is received, and given to nobody.
    assert worlds[0].values[0] == given_out[0] + worlds[0].log.count("late")


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_that_fails_takes_nothing_from_others(kernels: dict[str, Any]) -> None:
    world = World(kernels)
    for step in [("read", [(name, "initial") for name in range(1, 4)]), ("turn",), ("turn",)]:
        world.step(*step)
    world.fails = 1
    # One whose handshake is under way, before others; then the same among established ones.
    world.step("read", [(name, "short") for name in range(1, 4)])
    world.step("turn")
    for name in range(1, 4):
        world.step("establish", name)
    world.step("read", [(name, "short") for name in range(1, 4)])
    given_out = [entry[1] for entry in world.log if entry[0] == "receive"]
    assert sorted(given_out) == sorted([1, 2, 3] * 3)
    assert [entry for entry in world.log if entry[0] == "broken"] == [("broken", 1)] * 2


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_that_cannot_begin_stalls_no_other(kernels: dict[str, Any]) -> None:
    world = World(kernels)
    world.fails = 4
    world.step("read", [(name, "initial") for name in range(1, 7)])
    for _ in range(3):
        world.step("turn")
    assert [entry[1] for entry in world.log if entry[0] == "begin"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_that_cannot_be_ended_stalls_no_other(kernels: dict[str, Any]) -> None:
    world = World(kernels)
    names = range(1, 7)
    for step in [("read", [(name, "initial") for name in names]), ("turn",), ("turn",)]:
        world.step(*step)
    world.fails, world.is_endless = 1, True
    world.step("read", [(name, "short") for name in names])
    for _ in range(2):
        outcome(world, "turn")
    given_out = [entry[1] for entry in world.log if entry[0] == "receive"]
    assert sorted(given_out) == sorted([*names, *names])


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_that_cannot_settle_is_forgotten_when_it_is_over(
    kernels: dict[str, Any],
) -> None:
    world = World(kernels)
    # The session of this one is over when its timer fires.
    for step in [("read", [(2, "initial")]), ("turn",), ("turn",)]:
        world.step(*step)
    world.is_unsettled = True
    world.step("pass", 3.0)
    world.step("turn")
    world.step("turn")
    assert not world.listener._connections
    assert not world.listener._by_connection_id


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_that_cannot_settle_has_a_timer_yet(kernels: dict[str, Any]) -> None:
    """Else nothing would ever end it, and it would keep its place."""
    world = World(kernels)
    for step in [("read", [(5, "initial")]), ("turn",), ("turn",)]:
        world.step(*step)
    world.is_unsettled = True
    for _ in range(2):
        world.step("pass", 3.0)
        world.step("turn")
        world.step("turn")
    assert [entry[1] for entry in world.log if entry[0] == "expire"] == [5, 5]


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_what_is_late_for_a_closed_connection_is_dropped_until_nothing_is(
    kernels: dict[str, Any],
) -> None:
    """Else its sender is sent a stateless reset, or an old Initial begins a connection."""
    world = World(kernels)
    for step in [("read", [(1, "initial")]), ("turn",), ("turn",), ("establish", 1), ("close", 1)]:
        world.step(*step)
    world.step("turn")
    assert not world.listener._connections
    assert not world.listener._by_connection_id

    def answered() -> list[str]:
        before = len(world.log)
        world.step("read", [(1, "short"), (1, "initial")])
        asked = ("others", "unknown")
        return [entry[0] for entry in world.log[before:] if entry[0] in asked]

    world.step("pass", 0.9)
    assert answered() == []
    world.step("pass", 0.2)
    assert answered() == ["others", "unknown", "others"]


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_connections_that_clients_close_are_remembered_up_to_a_bound_the_newest_first(
    kernels: dict[str, Any],
) -> None:
    listener = World(kernels).listener
    named = [number.to_bytes(8) for number in range(4 * dispatch.LATE_MAX)]
    for first in range(0, len(named), 5):
        listener.outlive(named[first : first + 5], 1.0)
        assert len(listener._late) + len(listener._late_before) < dispatch.LATE_MAX + 5
    late = [listener.is_late(each, 0.5) for each in named]
    newest = late.index(True)
    assert all(late[newest:])
    assert dispatch.LATE_MAX // 2 <= len(named) - newest <= dispatch.LATE_MAX + 5


@pytest.mark.parametrize("kernels", [COMPILED, TWINS])
def test_a_connection_whose_timer_breaks_is_ended_and_holds_up_no_other(
    kernels: dict[str, Any],
) -> None:
    world = World(kernels)
    # The timer's work of the first raises.
    for step in [("read", [(1, "initial"), (5, "initial")]), ("turn",), ("turn",)]:
        world.step(*step)
    world.step("pass", 3.0)
    world.step("turn")
    done = [entry for entry in world.log if entry[0] in ("expire", "broken")]
    assert [entry[:2] for entry in done] == [("expire", 1), ("broken", 1), ("expire", 5)]


@pytest.mark.parametrize("kernels", [COMPILED, TWINS], ids=["compiled", "twin"])
def test_of_few_under_way_each_is_answered_at_once_and_of_more_at_the_end_of_the_turn(
    kernels: dict[str, Any],
) -> None:
    world = World(kernels)
    world.step("read", [(1, "initial")])
    world.turn()
    world.step("establish", 1)

    def sent_at_once(under_way: int) -> bool:
        world.log.clear()
        world.runtime.under_way = under_way
        world.step("read", [(1, "short")])
        at_once = any(each[0] == "sent" for each in world.log)
        world.turn()
        assert any(each[0] == "sent" for each in world.log)
        return at_once

    assert list(map(sent_at_once, (0, turns.FEW, turns.FEW + 1))) == [True, True, False]
