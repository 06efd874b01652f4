"""Connections begin, go on and end alike in the compiled kernels and in their twins.

One source makes both, so what is looked for is what C types change: ranges, truth, overriding.
"""

import importlib
from array import array
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import reasons
from spooky._core.gate import Places
from spooky._core.packets import PacketHeader, PacketType
from spooky.observe.segment import private_segment
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

NAMES = ("arrivals", "turns", "dispatch", "opening", "client_connection")
KERNELS = {name: importlib.import_module(f"spooky._core.{name}") for name in NAMES}
TWINS = twins(*NAMES)

BEGINNINGS = st.fixed_dictionaries(
    {
        "name": st.integers(0, 5),
        "size": st.sampled_from([1199, 1200]),
        "version": st.sampled_from([1, 1, 1, 7, None]),
        "type": st.sampled_from([PacketType.INITIAL] * 3 + [PacketType.HANDSHAKE]),
        "id_length": st.sampled_from([8, 8, 8, 7]),
        "token": st.sampled_from([b"", b"", b"good", b"retry", b"bad", b"none", None]),
        "address": st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]),
    }
)

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), BEGINNINGS),
        st.tuples(st.just("dropped"), st.sampled_from(["192.0.2.1", "192.0.2.2"])),
        st.tuples(st.just("establish"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.sampled_from([0.1, 3.1, 10.5, 30.0])),
        st.tuples(st.just("forget"), st.integers(0, 5)),
        st.tuples(
            st.just("set"),
            st.sampled_from(
                [
                    ("draining", True),
                    ("draining", False),
                    ("odd", True),
                    ("flooded", True),
                    ("flooded", False),
                    ("refuses_connections", True),
                    ("proves_addresses", True),
                    ("refuses_connections", False),
                    ("fails", True),
                    ("fails", False),
                    ("figures", None),
                    ("figures", (9, 8, 2, 0.25, 12_000)),
                    ("dropped", (1, 0, 2, 3, 4)),
                    ("active", True),
                ]
            ),
        ),
        st.tuples(
            st.just("settings"),
            st.sampled_from(["auto", "always", "never"]),
            st.dictionaries(
                st.sampled_from(["192.0.2.1", "192.0.2.2"]),
                st.sampled_from(["allow", "retry", "drop"]),
            ),
            st.booleans(),
        ),
    ),
    max_size=30,
)


class World:
    """What is around a listener; it notes what is asked of it."""

    def __init__(self, kernels: dict[str, Any]) -> None:
        self.log: list[Any] = []
        self.time = 10.0
        self.values = array("Q", [0] * 20)
        self.slots = 0
        self.state = {"odd": False, "flooded": False, "fails": False, "active": False}
        self.figures: Any = (5, 4, 1, 0.5, 30_000)
        self.dropped: Any = None
        self.overload = SimpleNamespace(refuses_connections=False, proves_addresses=False)
        self.segment = private_segment()
        self.kernels = kernels
        arrivals = kernels["arrivals"]
        rate = arrivals.Rate(self.segment)
        rate.set_buckets((10**9, 6), (10**9, 3))
        runtime = kernels["turns"].Turns(self, lambda: self.time, 0.001)
        self.runtime = runtime
        self.listener = listener_of(kernels)(
            runtime, self, 7, self, None, rate, self.overload, lambda: b"our ID..", 19
        )
        self.listener.world = self
        self.cap = self.listener.cap = arrivals.Cap(Places(), Places(), self.values, 18)
        self.cap.maximum, self.cap.half_open_maximum = 5, 3
        self.listener.measures = kernels["client_connection"].Measures(
            self.values,
            self.segment.histogram(0, 0),
            17,
            self.segment.histogram(0, 1000),
            self.segment.histogram(0, 2000),
            (14, 15, 16),
            (9, 10, 11, 12, 13),
        )
        self.connections: dict[int, Any] = {}
        # Also those whose names others have by now.
        self.made: list[Any] = []
        self.set_settings("auto", {}, False)

    def call_soon(self, callback: Any) -> None:
        self.log.append("soon")

    def call_later(self, delay: float, callback: Any) -> Any:
        return SimpleNamespace(cancel=lambda: None)

    def slot(self, name: str) -> int:
        self.slots += 1
        return self.slots - 1

    def set_settings(self, retry: str, rules: dict[str, str], has_proxies: bool) -> None:
        self.listener.settings = SimpleNamespace(
            parameters=SimpleNamespace(versions=(1, 2)),
            engine=SimpleNamespace(server_session=self.session),
            sources=SimpleNamespace(action=rules.get),
            established=SimpleNamespace(
                proxies=SimpleNamespace(
                    expects_header=lambda host: has_proxies and host == "192.0.2.1"
                )
            ),
            address=SimpleNamespace(retry=retry),
        )

    def session(self, parameters: Any, header: PacketHeader, *how: Any) -> Any:
        self.log.append(
            ("session", parameters.versions, header, [h for h in how if not callable(h)])
        )
        if self.state["fails"]:
            raise ZeroDivisionError
        return SimpleNamespace(
            figures=lambda: self.figures,
            take_dropped=self.take_dropped,
            ping=lambda: self.log.append("ping"),
            name=0,
        )

    def take_dropped(self) -> Any:
        dropped, self.dropped = self.dropped, None
        return dropped

    def act(self, act: str, *what: Any) -> None:
        listener = self.listener
        if act == "begin":
            self.begin(what[0])
        elif act == "dropped":
            self.log.append(listener._is_dropped((what[0], 1)))
        elif act == "settings":
            self.set_settings(*what)
        elif act == "pass":
            self.time += what[0]
            self.runtime._wheel.advance(self.time)
        elif act == "set":
            name, value = what[0]
            if name == "draining":
                listener.draining = value
            elif name in ("figures", "dropped"):
                setattr(self, name, value)
            elif name in self.state:
                self.state[name] = value
            else:
                setattr(self.overload, name, value)
        else:
            connection = self.connections.get(what[0])
            if connection is not None and act == "forget":
                connection.forget()
                connection.forget()
                del self.connections[what[0]]
            elif connection is not None and not connection.established:
                connection._establish()

    def begin(self, what: dict[str, Any]) -> None:
        name, token = what["name"], what["token"]
        destination = bytes([name]) * what["id_length"]
        # A token whose length says that it is longer than the packet is none.
        told = b"\x40\xff" if token is None else bytes([len(token)]) + token
        payload = b"\xc0\0\0\0\1" + bytes([len(destination)]) + destination + b"\0" + told
        if token is not None:
            payload = payload.ljust(what["size"], b"\0")
        header = PacketHeader(what["type"], what["version"], destination, b"", len(payload))
        source = (what["address"], 4)
        try:
            connection = self.listener._begin((payload, source, 0), header, self.time)
        except ZeroDivisionError:
            self.log.append("failed")
            return
        self.log.append(connection is not None)
        if connection is not None:
            self.connections[name] = connection

    def state_of(self) -> tuple[Any, ...]:
        cap = self.cap
        return (
            self.log,
            self.values,
            (cap.active, cap.half_open, cap._places.total, cap._half_open_places.total),
            sorted(self.listener._by_connection_id),
            self.segment.values(0).tolist()[:3000],
            len(self.runtime._wheel),
        )


def listener_of(kernels: dict[str, Any]) -> Any:
    """Return a listener that says what it is asked."""

    class Connection(kernels["client_connection"].ClientConnection):  # type: ignore[misc,name-defined]
        __slots__ = ()

        def terminate(self, reason: Any) -> None:
            self._listener.world.log.append(("terminate", reason))

        def _judge(self, now: float) -> None: ...

    class Listener(kernels["opening"].OpeningListener):  # type: ignore[misc,name-defined]
        def _client_of(self, source: Any) -> Any:
            return source[:2] if source[0] != "192.0.2.2" else reasons.PROXY_HEADER_UNTRUSTED

        def _refuse(self, *what: Any) -> None:
            self.world.log.append(("refuse", *what))

        def _check_token(self, header: Any, token: bytes, source: Any) -> Any:
            if token == b"bad":
                return reasons.INVALID_TOKEN
            original = b"original" if token == b"retry" else None
            proof = SimpleNamespace(original_destination_connection_id=original)
            return None if token == b"none" else proof

        def _send_retry(self, *what: Any) -> None:
            self.world.log.append(("retry", *what))

        def _is_flooded(self, header: Any, now: float) -> bool:
            return bool(self.world.state["flooded"])

        def _is_odd(self, client: Any, now: float) -> bool:
            return bool(self.world.state["odd"])

        def _use(self, proof: Any) -> None:
            self.world.log.append("used")

        def _negotiate_version(self, *what: Any) -> None:
            self.world.log.append(("version", *what))

        def _count(self, reason: Any) -> None:
            self.world.log.append(reason)

        def _count_failed(self) -> None:
            self.world.log.append("failed handshake")

        def _connect(self, session: Any, client_initial_id: bytes, announced: Any) -> Any:
            self.world.log.append(("connect", client_initial_id, announced))
            connection = Connection(self, session, client_initial_id, 10.0, 30.0)
            world = self.world
            world.made.append(connection)
            connection._http3 = SimpleNamespace(active_streams=world.state["active"])
            return connection

    return Listener


@given(ACTS)
@settings(deadline=None)
def test_whatever_happens_both_do_the_same(acts: list[tuple[Any, ...]]) -> None:
    worlds = World(KERNELS), World(TWINS)
    for act in [*acts, ("pass", 60.0)]:
        for world in worlds:
            world.act(*act)
        assert worlds[0].state_of() == worlds[1].state_of()
    made = [each for each in worlds[0].made if not each._forgotten]
    assert worlds[0].cap.active == len(made)
    assert worlds[0].cap.half_open == sum(not each.established for each in made)
