"""What is noted of a choice: whom a backend was held against, and by which numbers."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import balance as compiled
from spooky._core import decisions
from spooky._core.decisions import CANDIDATE, CANDIDATES_MAX
from spooky._core.pure import balance as pure
from spooky._core.pure import decisions as pure_decisions
from tests.core.test_balance import BUILDS, KINDS, keys, make

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pick", "pick", "other", "finish", "fail", "in", "out", "share"]),
        st.integers(0, 8),
        st.integers(1, 100),
        st.integers(0, 2**64 - 1),
    ),
    max_size=60,
)

NUMBER = st.floats(-1, 1e6, width=32)


def notes_of(build: ModuleType, balancer: Any, chosen: int) -> list[tuple[Any, ...]]:
    kept = pure_decisions if build is pure and not _core.COMPILED else decisions
    into = kept.Admitted()
    balancer.note_choice(chosen, into)
    data = into.data()
    assert len(data) == into.candidates * CANDIDATE.size
    return list(CANDIDATE.iter_unpack(data))


@pytest.mark.parametrize("build", BUILDS)
def test_least_request_notes_the_two_that_were_drawn(build: ModuleType) -> None:
    balancer = make(build, ("LeastRequest", {}), [100, 100, 200])
    for _ in range(200):
        chosen = balancer.pick(0)
        active = [balancer.active(backend) for backend in range(3)]
        balancer.started(chosen)
        first, *others = notes_of(build, balancer, chosen)
        assert first[:3] == (chosen, 1, active[chosen])
        assert first[3:] == pytest.approx(
            ((100, 100, 200)[chosen], -1, active[chosen] / (100, 100, 200)[chosen])
        )
        assert [other[0] for other in others] != [chosen]
        for position, is_chosen, at, weight, _, score in others:
            assert (is_chosen, at) == (0, active[position])
            assert score == pytest.approx(at / weight)
            assert first[5] <= score


@pytest.mark.parametrize("build", BUILDS)
def test_latency_aware_notes_all_there_is_room_for_with_their_latencies(build: ModuleType) -> None:
    balancer = make(build, ("LatencyAware", {}), [100] * (CANDIDATES_MAX + 3))
    for backend in range(4):
        balancer.started(backend)
        balancer.finished(backend, 10.0 * (backend + 1))
    balancer.started(1)
    balancer.set_eligible(2, False)
    chosen = balancer.pick(0)
    balancer.started(chosen)
    first, *others = notes_of(build, balancer, chosen)
    assert len(others) == CANDIDATES_MAX - 1
    assert 2 not in [other[0] for other in others]
    assert (first[0], first[4]) == (0, 10)
    (second,) = (other for other in others if other[0] == 1)
    assert (second[2], second[4], second[5]) == (1, 20, pytest.approx((20 + 10) / 100))
    assert [other[5] for other in others if other[0] > 3] == [-1] * (len(others) - 2)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kind", ["RingHash", "Maglev"])
def test_a_bounded_load_notes_the_full_backend_that_the_key_belongs_to(
    build: ModuleType, kind: str
) -> None:
    balancer = make(build, (kind, {"balance_factor": 1.25}), [100, 100, 100])
    home = balancer.pick(77)
    while (chosen := balancer.pick(77)) == home:
        balancer.started(home)
    balancer.started(chosen)
    first, second = notes_of(build, balancer, chosen)
    assert (first[:2], second[:2]) == ((chosen, 1), (home, 0))
    assert first[5] < 1 <= second[5]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kind", ["RoundRobin", "Random", "RingHash", "Maglev"])
def test_who_is_held_against_nobody_costs_no_room(build: ModuleType, kind: str) -> None:
    balancer = make(build, (kind, {}), [1, 2, 3])
    for key in keys(20):
        chosen = balancer.pick(key)
        balancer.started(chosen)
        assert notes_of(build, balancer, chosen) == []


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(weights=st.lists(st.integers(1, 1000), min_size=9, max_size=9), steps=STEPS)
def test_both_builds_note_the_same(
    kind: Any, weights: list[int], steps: list[tuple[str, int, int, int]]
) -> None:
    builds = pure, compiled
    pair = [make(build, kind, weights) for build in builds]
    for name, backend, number, key in steps:
        if name in ("pick", "other"):
            chosen = [
                one.pick(key) if name == "pick" else one.pick_other(key, backend) for one in pair
            ]
            assert chosen[0] == chosen[1]
            if chosen[0] >= 0:
                for one in pair:
                    one.started(chosen[0])
                mine, theirs = map(notes_of, builds, pair, chosen)
                assert mine == theirs
            continue
        for one in pair:
            if name == "finish":
                one.finished(backend, float(number))
            elif name == "fail":
                one.failed(backend, float(number))
            elif name == "share":
                one.set_share(backend, number)
            else:
                one.set_eligible(backend, name == "in")


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@given(
    candidates=st.lists(
        st.tuples(
            st.integers(0, 70_000), st.booleans(), st.integers(-(2**40), 2**40),
            NUMBER, NUMBER, NUMBER,
        ),
        max_size=CANDIDATES_MAX + 2,
    )
)  # fmt: skip
def test_both_builds_keep_candidates_alike(candidates: list[tuple[Any, ...]]) -> None:
    pair = decisions.Admitted(), pure_decisions.Admitted()
    for one in pair:
        one.add("global", 1, 2)
        for candidate in candidates:
            one.add_candidate(*candidate)
    assert pair[0].data() == pair[1].data()
    assert pair[0].candidates == pair[1].candidates <= CANDIDATES_MAX


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kind", ["RingHash", "Maglev"])
def test_a_bound_that_nothing_eligible_has_gives_no_score(build: ModuleType, kind: str) -> None:
    balancer = make(build, (kind, {"balance_factor": 1.25}), [100, 100])
    chosen = balancer.pick(7)
    balancer.started(chosen)
    for backend in range(2):
        balancer.set_eligible(backend, False)
    assert balancer.pick(7) == -1
    assert [note[5] for note in notes_of(build, balancer, chosen)] == [-1]
