"""A backend that gets only part of its weight: by which balancers, and in both builds alike."""

from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import balance as compiled
from spooky._core.pure import balance as pure

BOTH = pytest.mark.parametrize("balance", [compiled, pure], ids=["selected", "pure"])
WEIGHING = ["RoundRobin", "Random", "LeastRequest", "LatencyAware"]
IDS = [b"a", b"b", b"c", b"d"]


def shares(balancer: Any, count: int, busy: bool = False) -> list[float]:
    """Return which share of picks each backend gets; each request ends, or goes on, as it says."""
    picked: Counter[int] = Counter()
    running: list[int] = []
    for _ in range(count):
        backend = balancer.pick()
        picked[backend] += 1
        balancer.started(backend)
        running.append(backend)
        if len(running) > (8 if busy else 0):
            balancer.finished(running.pop(0), 10.0)
    return [picked[backend] / count for backend in range(len(balancer))]


@BOTH
@pytest.mark.parametrize("policy", ["RoundRobin", "Random"])
def test_a_backend_gets_its_share_of_its_weight_and_all_of_it_again(
    balance: ModuleType, policy: str
) -> None:
    balancer = getattr(balance, policy)(IDS, [1, 1, 1, 2], 5)
    balancer.set_share(0, 25)
    assert shares(balancer, 8_000) == pytest.approx([0.0588, 0.2353, 0.2353, 0.4706], abs=0.015)
    balancer.set_share(0, 100)
    assert shares(balancer, 8_000) == pytest.approx([0.2, 0.2, 0.2, 0.4], abs=0.015)


@BOTH
@pytest.mark.parametrize("policy", ["LeastRequest", "LatencyAware"])
def test_a_backend_with_a_small_share_is_held_busier_than_it_is(
    balance: ModuleType, policy: str
) -> None:
    balancer = getattr(balance, policy)(IDS, [10] * 4, 5)
    shares(balancer, 100, busy=True)
    balancer.set_share(3, 10)
    found = shares(balancer, 4_000, busy=True)
    assert found[3] < 0.1
    assert min(found[:3]) > 0.2


@BOTH
@pytest.mark.parametrize("policy", ["RingHash", "Maglev"])
def test_keys_do_not_move_for_a_share(balance: ModuleType, policy: str) -> None:
    balancer = getattr(balance, policy)(IDS, [1, 2, 3, 4])
    keys = [balance.hash_key(b"%d" % number) for number in range(500)]
    before = [balancer.pick(key) for key in keys]
    balancer.set_share(1, 1)
    assert [balancer.pick(key) for key in keys] == before


@BOTH
def test_a_share_is_kept_by_balancers_that_are_made_later(balance: ModuleType) -> None:
    loads = balance.Loads(1)
    old = balance.RoundRobin(IDS, [1] * 4, 0, loads=loads)
    old.set_share(0, 10)
    new = balance.RoundRobin([b"x", b"a"], [1, 1], 0, loads=loads)
    assert shares(new, 1_100) == pytest.approx([10 / 11, 1 / 11], abs=0.001)


@BOTH
def test_turns_go_on_where_they_were(balance: ModuleType) -> None:
    balancer = balance.RoundRobin(IDS, [1] * 4)
    balancer.set_share(3, 1)
    picked = []
    for share in range(2, 40):
        picked += [balancer.pick(), balancer.pick()]
        balancer.set_share(3, share)
    counts = Counter(picked)
    assert max(counts[at] for at in range(3)) - min(counts[at] for at in range(3)) <= 2


@BOTH
@pytest.mark.parametrize("percent", [0, 101, -1])
def test_a_share_is_from_1_to_100(balance: ModuleType, percent: int) -> None:
    balancer = balance.RoundRobin(IDS, [1] * 4)
    with pytest.raises(ValueError, match="1 to 100"):
        balancer.set_share(0, percent)
    with pytest.raises(IndexError):
        balancer.set_share(4, 50)


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@pytest.mark.parametrize("policy", [*WEIGHING, "RingHash", "Maglev"])
@given(
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    acts=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["share", "eligible", "pick"]),
                  st.integers(1, 100)),
        max_size=40,
    ),
)  # fmt: skip
@settings(max_examples=60)
def test_both_builds_pick_alike(
    policy: str, weights: list[int], acts: list[tuple[int, str, int]]
) -> None:
    def run(module: ModuleType) -> list[int]:
        ids = [b"%d" % at for at in range(len(weights))]
        balancer = getattr(module, policy)(ids, weights, 3)
        picked = []
        for backend, act, number in acts:
            backend %= len(weights)
            if act == "share":
                balancer.set_share(backend, number)
            elif act == "eligible":
                balancer.set_eligible(backend, bool(number % 2))
            for key in range(number % 7):
                picked.append(balancer.pick(key * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF))
                if picked[-1] >= 0:
                    balancer.started(picked[-1])
                picked.append(balancer.pick_other(key, backend))
                if number % 3:
                    balancer.finished(backend, float(number))
        return picked

    assert run(compiled) == run(pure)
