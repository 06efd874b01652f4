"""The stages of admission: priorities, the adaptive limit, and the breaker at the backend."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.admission import (
    Admission,
    AdmissionStage,
    Backend,
    Refusal,
    Upstream,
    admit,
)
from spooky._core.balance import RoundRobin
from spooky._core.breaker import Breaker
from spooky._core.concurrency import AdaptiveLimit
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate
from spooky._core.outcomes import Tally
from spooky._core.stages import AdaptiveStage, BackendStage, Brownout, Pressure, PriorityStage
from tests.overload.simulation import shared_places

LOW, NORMAL, HIGH, CORE = range(4)


def upstream(*stages: AdmissionStage, backends: int = 2, breakers: bool = True) -> Upstream:
    """Return an upstream as admission sees it, each backend with a breaker that opens at once."""
    made = []
    for number in range(backends):
        breaker = Breaker(shared_places()[2], 1, 1_000, 30_000, 1) if breakers else None
        stage, tally = BackendStage(Gate(), 2, breaker), Tally(None, None, 0, 0)
        made.append(Backend(f"{number}", b"http", b"", None, stage, tally, None))
    return Upstream(
        name="api",
        stages=stages,
        backends=tuple(made),
        balancer=RoundRobin([b"%d" % n for n in range(backends)], [1] * backends),
        key_source=None,
        forwarding=ForwardingPolicy(),
        retry=SimpleNamespace(budget=None, is_timed=False),
        excluded=None,
    )


def enter(at: Any, now: float = 1.0) -> Admission | Refusal:
    return admit(at, None, b"", b"", now)  # type: ignore[arg-type]


def entered(at: Any, now: float = 1.0) -> Admission:
    admission = enter(at, now)
    assert isinstance(admission, Admission)
    return admission


def refused(at: Any, now: float = 1.0) -> Refusal:
    refusal = enter(at, now)
    assert isinstance(refusal, Refusal)
    return refusal


def end(admission: Admission, reason: reasons.Reason = reasons.COMPLETED, now: float = 1.0) -> None:
    status = 200 if reason is reasons.COMPLETED else 0
    admission.leave(reason, status, 5.0, 5.0 if status else -1.0, now)


# --- brownout ---------------------------------------------------------------------------------
def test_brownout_sheds_one_priority_after_the_other_and_takes_them_back_in_steps() -> None:
    gate = Gate()
    brownout = Brownout(gate, 10, None, 90, 60, CORE)
    for _ in range(9):
        gate.try_enter(10)
    assert brownout.sheds(LOW, 1.0)
    assert not brownout.sheds(NORMAL, 1.05)
    assert brownout.sheds(NORMAL, 1.125)
    assert brownout.sheds(HIGH, 1.25)
    assert not brownout.sheds(CORE, 1.5)
    for _ in range(2):
        gate.leave()
    assert brownout.sheds(HIGH, 2.0)  # 70 %: neither worse nor better
    gate.leave()
    assert not brownout.sheds(HIGH, 2.125)
    assert brownout.sheds(NORMAL, 2.15)
    assert not brownout.sheds(NORMAL, 2.25)
    assert not brownout.sheds(LOW, 2.5)


def test_the_highest_priority_there_is_is_never_shed() -> None:
    gate = Gate()
    brownout = Brownout(gate, 10, None, 90, 60, NORMAL)
    for _ in range(10):
        gate.try_enter(10)
    for step in range(10):
        assert not brownout.sheds(NORMAL, 1.0 + step)
        assert brownout.sheds(LOW, 1.0 + step)


def test_brownout_follows_an_adaptive_limit() -> None:
    _, _, words = shared_places()
    adaptive, gate = AdaptiveLimit(words, 1, 100), Gate()
    words.store(1, 10 * 256)
    brownout = Brownout(gate, 1_000, adaptive, 90, 60, CORE)
    for _ in range(9):
        gate.try_enter(10)
    assert brownout.sheds(LOW, 1.0)
    assert brownout.percent == 90


@given(st.floats(0, 1), st.integers(0, 3))
def test_pressure_sheds_as_large_a_share_as_it_says_and_lower_priorities_first(
    value: float, priority: int
) -> None:
    pressure = Pressure()
    pressure.set(value, reasons.BROWNOUT)
    shed = [sum(pressure.sheds(each) for _ in range(200)) for each in range(4)]
    assert shed == sorted(shed, reverse=True)
    start, full = ((0.7, 0.85), (0.8, 0.95), (0.9, 0.99), (0.97, 1.0))[priority]
    share = min(max((value - start) / (full - start), 0.0), 1.0)
    assert shed[priority] == pytest.approx(200 * share, abs=1.1)


def test_what_is_shed_for_pressure_has_its_reason_and_takes_no_place() -> None:
    pressure, gate = Pressure(), Gate()
    at = upstream(
        PriorityStage(pressure, NORMAL, ()), AdmissionStage(gate, 5, reasons.GLOBAL_INFLIGHT)
    )
    end(entered(at))
    pressure.set(1.0, reasons.DRAINING)
    refusal = refused(at)
    assert refusal.reason is reasons.DRAINING
    assert (refusal.value, refusal.limit, refusal.gate) == (100, 100, None)
    assert gate.active == 0


# --- the adaptive limit -----------------------------------------------------------------------
class Remembering(AdaptiveLimit):
    """A limit of 2 that keeps what it is told."""

    seen: list[tuple[float, float]]

    def observe(self, now: float, latency: float) -> None:
        self.seen.append((now, latency))


def adaptive() -> tuple[Remembering, Gate, Any]:
    limit = Remembering(shared_places()[2], 2, 2)
    limit.seen = []
    gate = Gate()
    return limit, gate, upstream(AdaptiveStage(gate, limit))


def test_a_place_under_the_adaptive_limit_is_free_as_soon_as_the_head_came() -> None:
    limit, gate, at = adaptive()
    first, second = entered(at), entered(at)
    refusal = refused(at)
    assert refusal.reason is reasons.ADAPTIVE_ADMISSION
    assert (refusal.value, refusal.limit) == (2, 2)
    assert refusal.gate is gate
    first.answered(1.25, 200, 250.0)
    assert limit.seen == [(1.25, 0.25)]
    assert gate.active == 1
    end(first)
    end(second)
    assert gate.active == 0
    assert len(limit.seen) == 1


def test_an_error_teaches_the_adaptive_limit_nothing_but_a_timeout_does() -> None:
    limit, gate, at = adaptive()
    failed = entered(at)
    failed.answered(1.0, 500, 1.0)
    end(failed)
    end(entered(at), reasons.CONNECT_REFUSED)
    end(entered(at), reasons.CLIENT_RESET)
    assert limit.seen == []
    entered(at).leave(reasons.UPSTREAM_HEAD_TIMEOUT, 0, 2_000.0, -1.0, 3.0)
    assert limit.seen == [(3.0, 2.0)]
    assert gate.active == 0


# --- the backend ------------------------------------------------------------------------------
def test_requests_go_to_the_backends_whose_breaker_is_closed() -> None:
    at = upstream(backends=5)
    for _ in range(4):
        end(entered(at), reasons.CONNECT_REFUSED)
    indices = set()
    for _ in range(10):
        admission = entered(at)
        indices.add(admission.index)
        end(admission)
    assert len(indices) == 1


def test_with_every_breaker_open_requests_are_refused_without_waiting_until_a_probe() -> None:
    gate = Gate()
    at = upstream(AdmissionStage(gate, 9, reasons.GLOBAL_INFLIGHT), backends=2)
    for _ in range(2):
        end(entered(at), reasons.UPSTREAM_CONNECTION_LOST)
    refusal = refused(at, 1.5)
    assert refusal.reason is reasons.CIRCUIT_OPEN
    assert refusal.gate is None
    assert gate.active == 0
    probes = [entered(at, 2.0), entered(at, 2.0)]
    assert refused(at, 2.0).reason is reasons.CIRCUIT_OPEN
    end(probes[0], now=2.1)
    assert entered(at, 2.1).index == probes[0].index


def test_an_answer_is_no_failure_and_a_client_that_leaves_decides_nothing() -> None:
    at = upstream(backends=1)
    entered(at).leave(reasons.COMPLETED, 500, 5.0, -1.0, 1.0)
    end(entered(at), reasons.CLIENT_RESET)
    end(entered(at), reasons.UPSTREAM_RESET)
    assert refused(at).reason is reasons.CIRCUIT_OPEN
    end(entered(at, 2.0), reasons.CLIENT_RESET, 2.0)
    end(entered(at, 2.0), now=2.0)
    entered(at, 2.0)


def test_a_backend_without_room_gives_its_probe_back() -> None:
    at = upstream(backends=1)
    held = [entered(at), entered(at)]
    refusal = refused(at)
    assert refusal.reason is reasons.BACKEND_INFLIGHT
    assert (refusal.value, refusal.limit) == (2, 2)
    end(held[0], reasons.CONNECT_REFUSED)
    entered(at, 2.0).leave(reasons.CLIENT_RESET, 0, 1.0, -1.0, 2.0)
    assert isinstance(enter(at, 2.0), Admission)
