"""A balancer made after another knows what that one knew, and moves no more than it has to."""

from types import ModuleType

import pytest

from spooky._core import balance as compiled
from spooky._core.pure import balance as pure

BOTH = pytest.mark.parametrize("balance", [compiled, pure], ids=["selected", "pure"])
POLICIES = ["RoundRobin", "Random", "LeastRequest", "LatencyAware", "RingHash", "Maglev"]


@BOTH
@pytest.mark.parametrize("policy", POLICIES)
def test_requests_in_flight_are_counted_across_a_change_until_they_end(
    balance: ModuleType, policy: str
) -> None:
    loads = balance.Loads(1)
    old = getattr(balance, policy)([b"a", b"b", b"c"], [1, 1, 1], 1, loads=loads)
    old.started(1)
    old.started(1)
    new = getattr(balance, policy)([b"x", b"c", b"b"], [5, 1, 2], 1, loads=loads)
    assert [new.active(backend) for backend in range(3)] == [0, 0, 2]
    # An exchange that began before the change ends where it began.
    old.finished(1)
    assert new.active(2) == 1
    new.started(0)
    assert [old.active(backend) for backend in range(3)] == [0, 1, 0]


@BOTH
def test_a_backend_that_was_taken_out_stays_out(balance: ModuleType) -> None:
    loads = balance.Loads(1)
    old = balance.RoundRobin([b"a", b"b"], [1, 1], 0, loads=loads)
    old.set_eligible(0, False)
    new = balance.RoundRobin([b"a", b"b", b"c"], [1, 1, 1], 0, loads=loads)
    assert {new.pick() for _ in range(6)} == {1, 2}
    new.set_eligible(0, True)
    assert {old.pick() for _ in range(6)} == {0, 1}


@BOTH
def test_what_a_removed_backend_had_is_forgotten_with_the_last_balancer(
    balance: ModuleType,
) -> None:
    loads = balance.Loads(1)
    old = balance.LeastRequest([b"a", b"b"], [1, 1], 0, loads=loads)
    old.started(0)
    kept = balance.LeastRequest([b"b"], [1], 0, loads=loads)
    del old
    again = balance.LeastRequest([b"a", b"b"], [1, 1], 0, loads=loads)
    assert again.active(0) == 0
    assert len(kept) == 1


@BOTH
def test_a_latency_estimate_is_kept(balance: ModuleType) -> None:
    loads = balance.Loads(1)
    old = balance.LatencyAware([b"slow", b"fast"], [1, 1], 0, loads=loads)
    for backend, latency in ((0, 500.0), (1, 5.0)):
        old.started(backend)
        old.finished(backend, latency)
    new = balance.LatencyAware([b"fast", b"slow"], [2, 1], 0, loads=loads)
    assert [new.pick() for _ in range(5)] == [0] * 5


@BOTH
def test_turns_go_on_where_they_were(balance: ModuleType) -> None:
    loads = balance.Loads()
    ids = [b"a", b"b", b"c", b"d"]
    old = balance.RoundRobin(ids, [1] * 4, 0, loads=loads)
    assert [ids[old.pick()] for _ in range(2)] == [b"a", b"b"]
    # c's turn is next; d follows where c went away.
    new = balance.RoundRobin([b"d", b"a", b"b", b"c"], [1] * 4, 0, loads=loads)
    assert new.pick() == 3
    last = balance.RoundRobin([b"b", b"a"], [1] * 2, 0, loads=loads)
    # d's turn was next; a follows where d went away.
    assert [last.pick() for _ in range(2)] == [1, 0]


@BOTH
def test_current_weights_are_kept_so_that_changes_do_not_favour_the_heaviest(
    balance: ModuleType,
) -> None:
    """Without them each change would begin the round again, at the heaviest backend."""
    loads = balance.Loads()
    counts = {b"heavy": 0, b"light": 0}
    for change in range(400):
        ids = [b"heavy", b"light", b"%d" % change]
        balancer = balance.RoundRobin(ids, [3, 2, 1], 0, loads=loads)
        picked = ids[balancer.pick()]
        counts[picked] = counts.get(picked, 0) + 1
    assert counts[b"light"] > 400 * 2 / 6 * 0.8


@BOTH
def test_both_builds_pick_alike_across_changes(balance: ModuleType) -> None:
    def picks(module: ModuleType) -> list[int]:
        loads = module.Loads(3)
        found = []
        for change in range(1, 60):
            ids = [b"%d" % ((change * step) % 17) for step in range(1, 6)]
            ids = list(dict.fromkeys(ids))
            weights = [1 + (change * index) % 4 for index in range(len(ids))]
            balancer = module.RoundRobin(ids, weights, 3, loads=loads)
            if change % 5 == 0:
                balancer.set_eligible(0, False)
            found += [balancer.pick() for _ in range(7)]
        return found

    assert picks(balance) == picks(pure)


@BOTH
def test_a_ring_moves_only_the_share_of_the_backends_that_changed(balance: ModuleType) -> None:
    ids = [b"%d" % number for number in range(10)]
    keys = [balance.hash_key(b"key %d" % number) for number in range(4000)]
    loads = balance.Loads()
    old = balance.RingHash(ids, [100] * 10, 0, loads=loads)
    new = balance.RingHash([*ids[1:], b"new"], [100] * 10, 0, loads=loads)
    left = [*ids[1:], b"new"]
    for key in keys:
        before, after = ids[old.pick(key)], left[new.pick(key)]
        assert after in (before, b"new") or before == b"0"


@BOTH
@pytest.mark.parametrize("policy", POLICIES)
def test_a_drained_backend_is_chosen_by_no_balancer_that_drains_it_and_by_every_other(
    balance: ModuleType, policy: str
) -> None:
    """So a generation that drains one has no effect on requests of the generation before."""
    loads = balance.Loads(1)
    ids, keys = [b"a", b"b", b"c"], [balance.hash_key(b"key %d" % number) for number in range(300)]
    before = getattr(balance, policy)(ids, [1, 2, 1], 1, loads=loads)
    after = getattr(balance, policy)(ids, [1, 2, 1], 1, loads=loads)
    after.drain(1)
    assert 1 not in {after.pick(key) for key in keys}
    assert {after.pick_other(key, 0) for key in keys} == {2}
    before.started(0)
    assert 1 in {before.pick(key) for key in keys}
    # Health is another matter: it counts for both, and brings no drained backend back.
    before.set_eligible(1, False)
    before.set_eligible(1, True)
    assert 1 not in {after.pick(key) for key in keys}
    after.drain(0)
    after.drain(2)
    assert after.pick(keys[0]) == -1
    with pytest.raises(IndexError):
        after.drain(3)


@BOTH
@pytest.mark.parametrize("policy", ["RingHash", "Maglev"])
def test_the_keys_of_a_drained_backend_alone_move_and_come_back(
    balance: ModuleType, policy: str
) -> None:
    ids, weights = [b"%d" % number for number in range(8)], [100, 7, 40, 900, 3, 100, 100, 50]
    keys = [balance.hash_key(b"key %d" % number) for number in range(500)]

    def owners(*drained: int) -> list[int]:
        balancer = getattr(balance, policy)(ids, weights)
        for backend in drained:
            balancer.drain(backend)
        return [balancer.pick(key) for key in keys]

    normal, draining = owners(), owners(3)
    assert 3 not in draining
    assert all(one == other for one, other in zip(normal, draining, strict=True) if one != 3)
    assert draining == owners(3)
