"""The compiled look-up of hosts that connections are good for and its twin do the same."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import authority
from tests.support.twins import twins

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

TWIN = twins("authority")["authority"]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from([b"", b"a", b"b", b"c"])),
        # Of a listener, what is in force from now on, and whether it is checked.
        st.tuples(st.just("change"), st.booleans()),
        st.tuples(st.just("fail"), st.booleans()),
    ),
    max_size=20,
)


def live(kernel: Any, steps: list[tuple[Any, ...]]) -> list[Any]:
    """Have connections ask for hosts; return everything that came of it."""
    log: list[Any] = []
    state = SimpleNamespace(number=0, fails=False)

    class CoveredHosts(kernel.CoveredHosts):  # type: ignore[misc]
        def __init__(self, number: int, handshake: str) -> None:
            super().__init__()
            self.number, self.handshake = number, handshake

        def includes(self, host: bytes) -> bool:
            log.append(("decides", self.number, self.handshake, host))
            if state.fails:
                raise ZeroDivisionError
            decided = host in (b"a", b"") or self.number % 2 == 1
            if host:
                self.known[host] = decided
            return decided

    class Authorities(kernel.Authorities):  # type: ignore[misc]
        def __init__(self, number: int, is_checked: bool) -> None:
            super().__init__(is_checked)
            self.number = number

        def _cover(self, handshake: str) -> Any:
            log.append(("covers", self.number, handshake))
            return CoveredHosts(self.number, handshake)

    listener = SimpleNamespace(settings=SimpleNamespace(authorities=Authorities(0, True)))
    connections = [
        kernel.ConnectionAuthority(handshake, listener) for handshake in ("one", "two", "one")
    ]
    for act, *what in steps:
        if act == "change":
            state.number += 1
            listener.settings = SimpleNamespace(authorities=Authorities(state.number, *what))
        elif act == "fail":
            (state.fails,) = what
        else:
            try:
                log.append(connections[what[0]].includes(what[1]))
            except ZeroDivisionError:
                log.append("raised")
    return log


@given(STEPS)
def test_authorities(steps: list[tuple[Any, ...]]) -> None:
    assert live(authority, steps) == live(TWIN, steps)


@pytest.mark.parametrize("kernel", [authority, TWIN], ids=["compiled", "twin"])
def test_what_is_in_force_decides_and_once_for_a_host_of_a_handshake(kernel: Any) -> None:
    asked = ("ask", 0, b"b")
    log = live(kernel, [asked, asked, ("ask", 2, b"b"), ("change", True), asked, ("change", False)])
    assert log == [
        ("covers", 0, "one"), ("decides", 0, "one", b"b"), False, False, False,
        ("covers", 1, "one"), ("decides", 1, "one", b"b"), True,
    ]  # fmt: skip
