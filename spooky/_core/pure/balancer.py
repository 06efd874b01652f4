"""What all balancers of :mod:`spooky._core.pure.balance` share: loads, weights, who is eligible."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from spooky._core.decisions import Admitted
from spooky._core.pure.hashes import GOLDEN, MASK, mix

if TYPE_CHECKING:
    from spooky._core.shared import Limit

MAX_WEIGHT: Final = 1000

FULL_SHARE: Final = 100
"""Percent of its weight that a backend has."""


NO_SCORE: Final = -1.0
"""Of a backend that was not held against others by a number."""

# Instead of the backend that was held against the one that was chosen; that may be -1 for none.
_NOTHING_COMPARED = -2


class BackendLoad:
    """What is known of one backend's load, by all balancers that have it."""

    __slots__ = ("__weakref__", "active", "eligible", "estimate", "sampled_at", "share")

    def __init__(self) -> None:
        self.active = 0
        self.eligible = True
        self.estimate = 0.0
        self.sampled_at = 0
        self.share = FULL_SHARE


class Loads:
    """What outlives a balancer when weights or backends change: loads, random numbers and turns.

    Balancers that are made with the same loads, one after the other, know of the same requests: one
    that began under the first is counted until it ends, and is seen by the next.

    Arguments:
        seed: Of the random numbers.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = seed & MASK
        self.picks = 0
        self.version = 0  # Counts changes of eligibility and shares, which all have to notice.
        self.leader: Balancer | None = None
        self._of: WeakValueDictionary[bytes, BackendLoad] = WeakValueDictionary()

    def of(self, identity: bytes) -> BackendLoad:
        """Return the load of a backend, forgotten when no balancer has it any more."""
        load = self._of.get(identity)
        if load is None:
            load = self._of[identity] = BackendLoad()
        return load

    def forget_turns(self) -> None:
        """Let go of the balancer that picked last; call it when no other will be made."""
        self.leader = None


class Balancer:
    """Choices among the backends of one upstream, with their load.

    Backends are named by position. Every balancer honours weights and skips backends that are
    not eligible.

    Arguments:
        ids: Backend identities; hash layouts depend on these and the weights alone.
        weights: 1 to 1000 each.
        seed: Of the balancer's own random numbers, and where turns begin.
        loads: What an earlier balancer of the upstream left; its own if none are given.

    Raises:
        ValueError: A weight out of range, an identity twice, or not as many of both.
        IndexError: By every method, for a backend that does not exist.
    """

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        loads: Loads | None = None,
    ) -> None:
        if len(ids) != len(weights):
            raise ValueError(f"{len(ids)} backends but {len(weights)} weights")
        if len(set(ids)) != len(ids):
            raise ValueError("two backends have the same id")
        if not all(1 <= weight <= MAX_WEIGHT for weight in weights):
            raise ValueError(f"weights must be 1 to {MAX_WEIGHT}")
        self._given_weights = list(weights)
        self._weights = list(weights)
        self._loads = loads if loads is not None else Loads(seed)
        self._shares_loads = loads is not None
        self._load = [self._loads.of(identity) for identity in ids]
        self._drained = [False] * len(ids)
        self._limits: list[Limit | None] = [None] * len(ids)
        # Sums over the eligible backends, as of this version of the loads.
        self._version = -1
        self._eligible_count = len(ids)
        self._eligible_weight = sum(weights)
        self._eligible_active = 0
        self._changed = True
        self._rival = _NOTHING_COMPARED

    def __len__(self) -> int:
        return len(self._weights)

    def pick(self, key: int = 0) -> int:
        """Return the backend for a request, or -1 if none is eligible.

        Arguments:
            key: ``hash_key`` of the balancing key; ignored by those that do not hash.
        """
        self._follow()
        return self._choose(key)

    def pick_other(self, key: int, excluded: int) -> int:
        """Return a backend other than ``excluded``, or -1; for a second try."""
        self._follow()
        return self._choose_other(key, excluded)

    def _choose(self, key: int) -> int:
        return self._choose_other(key, -1)

    def _choose_other(self, key: int, excluded: int) -> int:
        return self._draw_other(excluded)

    def _follow(self) -> None:
        """Go by what other balancers did with the same loads."""
        if self._version != self._loads.version:
            self._weigh()
            eligible = list(self._others(-1))
            self._eligible_count = len(eligible)
            self._eligible_weight = sum(self._weights[backend] for backend in eligible)
            self._changed = True
            self._version = self._loads.version

    def _weigh(self) -> None:
        """Take the weights as far as shares go; the same numbers as given where all are full."""
        shares = [load.share for load in self._load]
        if all(share == FULL_SHARE for share in shares):
            shares = [1] * len(shares)
        self._weights = [
            weight * share for weight, share in zip(self._given_weights, shares, strict=True)
        ]

    def set_share(self, backend: int, percent: int) -> None:
        """Give a backend only so much of its weight, for all balancers with the same loads.

        Those that hash go by the whole weight all the same: else keys would move.

        Raises:
            ValueError: It is not 1 to 100.
        """
        self._check(backend)
        if not 1 <= percent <= FULL_SHARE:
            raise ValueError(f"a share is 1 to {FULL_SHARE} percent")
        if self._load[backend].share != percent:
            self._load[backend].share = percent
            self._loads.version += 1

    def set_eligible(self, backend: int, eligible: bool) -> None:
        """Put a backend in or out of the choice, for all balancers with the same loads."""
        self._check(backend)
        if self._load[backend].eligible != eligible:
            self._load[backend].eligible = eligible
            self._loads.version += 1

    def drain(self, backend: int) -> None:
        """Choose a backend no more, in this balancer alone; its place on a ring stays."""
        self._check(backend)
        self._drained[backend] = True
        self._version = -1

    def count_by(self, backend: int, limit: "Limit") -> None:
        """Go by what all workers have in flight to a backend, where two are held together."""
        self._check(backend)
        self._limits[backend] = limit

    def excluded(self) -> int:
        """Return how many backends were not in the choice at the last pick."""
        return len(self._weights) - self._eligible_count

    def is_eligible(self, backend: int) -> bool:
        """Return whether a backend is in the choice."""
        self._check(backend)
        return self._is_eligible(backend)

    def _is_eligible(self, backend: int) -> bool:
        return self._load[backend].eligible and not self._drained[backend]

    def started(self, backend: int) -> None:
        """Count a request as active on a backend."""
        self._check(backend)
        self._load[backend].active += 1

    def finished(self, backend: int, latency_ms: float = -1.0) -> None:
        """Count a request as ended.

        Arguments:
            latency_ms: Time to the response head; negative gives no latency sample.
        """
        self._check(backend)
        if self._load[backend].active > 0:
            self._load[backend].active -= 1

    def failed(self, backend: int, elapsed_ms: float) -> None:
        """Count a request as ended badly, after so long."""
        self.finished(backend)

    def version(self) -> int:
        """Return another number whenever a backend came in or out of the choice, by its loads."""
        return self._loads.version

    def note_choice(self, chosen: int, into: Admitted) -> None:
        """Note the backends that were held against each other, by a number, at the last pick.

        Arguments:
            chosen: Who got the request, which is counted as active there by now.
        """
        if self._rival == _NOTHING_COMPARED:
            return
        self._note(chosen, 1, into)
        if self._rival >= 0 and self._rival != chosen:
            self._note(self._rival, 0, into)

    def _note(self, backend: int, chosen: int, into: Admitted) -> None:
        load = self._load[backend]
        active = max(self._in_flight(backend) - chosen, 0)
        weight = self._given_weights[backend] * load.share / FULL_SHARE
        latency = load.estimate if load.estimate > 0.0 else NO_SCORE
        score = self._score(backend, active, weight)
        into.add_candidate(backend, bool(chosen), active, weight, latency, score)

    def _in_flight(self, backend: int) -> int:
        """Return what a backend was judged by: here what this worker has in flight there."""
        return self._load[backend].active

    def _score(self, backend: int, active: int, weight: float) -> float:
        """Return what a backend was judged by, with so many requests: the less the better."""
        return active / weight

    def active(self, backend: int) -> int:
        """Return the number of active requests on a backend."""
        self._check(backend)
        return self._load[backend].active

    def _check(self, backend: int) -> None:
        if not 0 <= backend < len(self._weights):
            raise IndexError("no such backend")

    def _next_random(self) -> int:
        self._loads.random = (self._loads.random + GOLDEN) & MASK
        return mix(self._loads.random)

    def _others(self, excluded: int) -> Iterator[int]:
        """Yield the eligible backends other than ``excluded``."""
        for backend in range(len(self._load)):
            if self._is_eligible(backend) and backend != excluded:
                yield backend

    def _counts_in(self, excluded: int) -> bool:
        """Return whether ``excluded`` is an eligible backend, and so part of the sums."""
        return 0 <= excluded < len(self._weights) and self._is_eligible(excluded)

    def _draw_other(self, excluded: int) -> int:
        """Return a weighted random eligible backend other than ``excluded``, or -1."""
        total = self._eligible_weight
        if self._counts_in(excluded):
            total -= self._weights[excluded]
        at = ((self._next_random() >> 32) * total) >> 32
        for backend in self._others(excluded):
            if at < self._weights[backend]:
                return backend
            at -= self._weights[backend]
        return -1

    def _is_less_loaded(self, one: int, other: int) -> bool:
        """Return whether ``one`` has fewer active requests for its weight than ``other``."""
        return self._load[one].active * self._weights[other] < (
            self._load[other].active * self._weights[one]
        )
