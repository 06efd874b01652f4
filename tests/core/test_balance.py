"""What holds for every balancer: eligibility, weights, load counts; in both builds."""

from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import balance as compiled
from spooky._core.pure import balance as pure

BUILDS = [pure, compiled] if _core.COMPILED else [pure]
KINDS = [
    ("RoundRobin", {}),
    ("Random", {}),
    ("LeastRequest", {}),
    ("LatencyAware", {}),
    ("RingHash", {}),
    ("RingHash", {"balance_factor": 1.25}),
    ("Maglev", {}),
    ("Maglev", {"balance_factor": 1.25}),
]
GOLDEN = 0x9E37_79B9_7F4A_7C15


@pytest.fixture(params=BUILDS, ids=lambda build: "compiled" if build is compiled else "pure")
def balance(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, [kind[0], *kind[1].values()])))
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def make(balance: ModuleType, kind: Any, weights: list[int], seed: int = 1) -> Any:
    ids = [b"backend-%d" % number for number in range(len(weights))]
    return getattr(balance, kind[0])(ids, weights, seed, **kind[1])


def keys(count: int) -> list[int]:
    """Return keys spread as hashes are."""
    return [number * GOLDEN % 2**64 for number in range(1, count + 1)]


# --- eligibility ------------------------------------------------------------------------------
def test_only_the_eligible_are_picked(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [3, 1, 2, 5, 1])
    for out in (1, 3):
        balancer.set_eligible(out, False)
    assert {balancer.pick(key) for key in keys(300)} <= {0, 2, 4}
    assert {balancer.pick_other(key, 2) for key in keys(300)} <= {0, 4}
    balancer.set_eligible(3, True)
    balancer.set_eligible(3, True)
    for backend in (0, 2, 4):
        balancer.set_eligible(backend, False)
    assert {balancer.pick(key) for key in keys(50)} == {3}
    assert {balancer.pick_other(key, 3) for key in keys(50)} == {-1}
    assert {balancer.pick_other(key, 0) for key in keys(50)} == {3}


def test_none_is_picked_when_none_is_eligible(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [1, 1])
    for backend in (0, 1):
        balancer.set_eligible(backend, False)
    assert balancer.pick(7) == -1
    assert balancer.pick_other(7, 0) == -1
    balancer.set_eligible(1, True)
    assert balancer.pick(7) == 1


def test_no_backends_at_all(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [])
    assert len(balancer) == 0
    assert balancer.pick(1) == -1
    assert balancer.pick_other(1, 0) == -1


def test_any_number_may_be_excluded(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [1, 1])
    for excluded in (-1, 2, 1 << 40):
        assert balancer.pick_other(7, excluded) in (0, 1)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["in", "out", "out", "start", "start", "finish", "pick", "other"]),
        st.integers(0, 6),
        st.integers(0, 2**64 - 1),
    ),
    max_size=60,
)


@given(weights=st.lists(st.integers(1, 1000), min_size=7, max_size=7), operations=OPERATIONS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("build", BUILDS)
def test_a_pick_is_eligible_and_minus_one_only_when_none_is(
    build: ModuleType, kind: Any, weights: list[int], operations: list[tuple[str, int, int]]
) -> None:
    balancer = make(build, kind, weights)
    eligible = set(range(7))
    active = [0] * 7
    for name, backend, key in operations:
        if name in ("in", "out"):
            balancer.set_eligible(backend, name == "in")
            (eligible.add if name == "in" else eligible.discard)(backend)
        elif name == "start":
            balancer.started(backend)
            active[backend] += 1
        elif name == "finish":
            balancer.finished(backend, 5.0)
            active[backend] = max(0, active[backend] - 1)
        elif name == "pick":
            assert balancer.pick(key) in (eligible or {-1})
        else:
            assert balancer.pick_other(key, backend) in (eligible - {backend} or {-1})
        assert [balancer.active(number) for number in range(7)] == active


# --- weights ----------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [[100] * 5, [1, 2, 3, 4], [1000, 500, 100], [7]], ids=str)
def test_shares_follow_weights(balance: ModuleType, kind: Any, weights: list[int]) -> None:
    """Of many picks with as many requests at work as there would be, for a given seed.

    A ring of 512 points a backend is exact to about 1/sqrt(512), a share of 100 in 1600 to
    1/sqrt(512 * 3 / 16), so within three times that.
    """
    balancer = make(balance, kind, weights)
    at_work: list[int] = []
    counts: Counter[int] = Counter()
    total = 4000
    for key in keys(total):
        backend = balancer.pick(key)
        counts[backend] += 1
        balancer.started(backend)
        at_work.append(backend)
        if len(at_work) > 200:
            balancer.finished(at_work.pop(0), 20.0)
    tolerance = 0.31 if kind[0] == "RingHash" else 0.12
    for backend, weight in enumerate(weights):
        fair = total * weight / sum(weights)
        assert abs(counts[backend] - fair) <= tolerance * fair + 3


# --- load -------------------------------------------------------------------------------------
def test_active_counts_never_fall_below_zero(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [1, 1])
    balancer.finished(0)
    assert balancer.active(0) == 0
    balancer.started(0)
    balancer.set_eligible(0, False)
    balancer.finished(0, 3.0)
    balancer.finished(0)
    balancer.set_eligible(0, True)
    assert balancer.active(0) == 0
    assert {balancer.pick(key) for key in keys(64)} <= {0, 1}


def test_what_is_in_the_choice_can_be_asked(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [1, 1, 1])
    balancer.set_eligible(1, False)
    balancer.drain(2)
    assert [balancer.is_eligible(backend) for backend in range(3)] == [True, False, False]


# --- arguments --------------------------------------------------------------------------------
def test_a_backend_that_does_not_exist_is_an_error(balance: ModuleType, kind: Any) -> None:
    balancer = make(balance, kind, [1, 1])
    calls = [balancer.started, balancer.finished, balancer.active, balancer.is_eligible]
    calls.append(lambda backend: balancer.set_eligible(backend, True))
    if kind[0] == "LatencyAware":
        calls.append(lambda backend: balancer.failed(backend, 1.0))
        calls.append(lambda backend: balancer.learn(backend, 1.0, 1))
    for call in calls:
        for backend in (-1, 2):
            with pytest.raises(IndexError):
                call(backend)


@pytest.mark.parametrize(
    ("ids", "weights"),
    [
        ([b"a"], []),
        ([b"a", b"a"], [1, 1]),
        ([b"a"], [0]),
        ([b"a"], [1001]),
        ([b"a"], [-1]),
    ],
)
def test_bad_backends_are_refused(
    balance: ModuleType, kind: Any, ids: list[bytes], weights: list[int]
) -> None:
    with pytest.raises(ValueError, match=r"weights|same id"):
        getattr(balance, kind[0])(ids, weights)


@pytest.mark.parametrize("factor", [0.99, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["RingHash", "Maglev"])
def test_a_bad_balance_factor_is_refused(balance: ModuleType, name: str, factor: float) -> None:
    with pytest.raises(ValueError, match="balance_factor"):
        getattr(balance, name)([b"a"], [1], balance_factor=factor)


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, 2**200])
def test_any_seed_will_do(balance: ModuleType, kind: Any, seed: int) -> None:
    balancer = make(balance, kind, [1, 2, 3], seed)
    assert {balancer.pick(key) for key in keys(200)} <= {0, 1, 2}


# --- the hash of keys -------------------------------------------------------------------------
def sanity_buffer(length: int) -> bytes:
    """Return the input of XXH64's own sanity check."""
    generator, result = 2_654_435_761, bytearray()
    for _ in range(length):
        result.append(generator >> 56)
        generator = generator * 11_400_714_785_074_694_797 % 2**64
    return bytes(result)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, 0xEF46DB3751D8E999),
        (1, 0xE934A84ADB052768),
        (4, 0x9136A0DCA57457EE),
        (14, 0x8282DCC4994E35C8),
        (222, 0xB641AE8CB691C174),
    ],
)
def test_hash_key_is_xxh64(balance: ModuleType, length: int, expected: int) -> None:
    assert balance.hash_key(sanity_buffer(length)) == expected


def test_every_bit_of_a_key_reaches_every_bit_of_its_hash(balance: ModuleType) -> None:
    """Avalanche: one bit in changes each bit out in about half of the cases."""
    changed = [0] * 64
    trials = 0
    for number in range(16):
        key = bytes(pure.hash_key(b"%d" % number) >> shift & 255 for shift in range(0, 64, 8)) * 2
        for bit in range(128):
            other = (int.from_bytes(key, "big") ^ 1 << bit).to_bytes(16, "big")
            difference = balance.hash_key(key) ^ balance.hash_key(other)
            changed = [count + (difference >> i & 1) for i, count in enumerate(changed)]
            trials += 1
    assert all(0.45 < count / trials < 0.55 for count in changed)
