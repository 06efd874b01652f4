"""Which backend of an upstream gets a request.

Weights divide the work in proportion. All arithmetic is on integers, or on doubles in a fixed
order, and random numbers are SplitMix64, so that both builds make the same choices.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import isfinite, log
from typing import Final

from spooky._core.decisions import CANDIDATES_MAX, Admitted
from spooky._core.pure.balancer import FULL_SHARE as FULL_SHARE
from spooky._core.pure.balancer import MAX_WEIGHT as MAX_WEIGHT
from spooky._core.pure.balancer import NO_SCORE as NO_SCORE
from spooky._core.pure.balancer import BackendLoad as BackendLoad
from spooky._core.pure.balancer import Balancer as Balancer
from spooky._core.pure.balancer import Loads as Loads
from spooky._core.pure.hashes import GOLDEN, MASK, hash_key, mix

RING_LAYOUT_VERSION: Final = 2
"""Changes when the placement of backends on a ring or in a Maglev table does."""

RING_POINTS: Final = 512
"""Ring points of a backend of median weight; shares then deviate by about 1/sqrt(512) = 4.4 %."""

MAX_RING_POINTS: Final = 262_144
"""Bound of a whole ring, about 4 MiB; beyond 512 backends of one weight each gets fewer points."""

MAX_RING_WALK: Final = 4096
"""Ring points looked at for an eligible backend before every backend is ranked instead."""

MAGLEV_SIZE: Final = 65_537
"""Prime, as Maglev requires; 100 backends get 655 slots each, so shares deviate below 1 %."""

MAX_MAGLEV_PROBES: Final = 16
"""Slots looked at for an eligible backend before every backend is ranked instead."""

MAX_OVERFLOW_JUMPS: Final = 16
"""Jumps away from full backends before the least loaded one is taken."""

PROBE_EVERY: Final = 16
"""Every so many picks, an idle backend without a latency estimate is tried."""

STALE_TURNS: Final = 128
"""A latency estimate is forgotten after this many picks for each backend without a sample, so
that a backend that was slow once is tried again; at most 1 % of requests are such tries."""

EWMA_ALPHA: Final = 0.2
MIN_LATENCY_MS: Final = 1.0
MAX_LATENCY_MS: Final = 60_000.0
LEARNT_MAX: Final = 64
"""So many samples at once leave nothing of an estimate before."""

FAILURE_LATENCY_MS: Final = 1000.0
ACTIVE_CHARGE_MS: Final = 10.0


class RoundRobin(Balancer):
    """Smooth weighted round-robin.

    Backends of one weight form a group and take turns; the groups take turns by nginx's smooth
    algorithm: each earns its weight at every pick, the richest is picked and pays for all. So a
    pick costs one step for each distinct weight, and no sequence is stored, however long. The
    turns begin at backend ``seed`` of each group, so that workers do not move in step.
    """

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        loads: Loads | None = None,
    ) -> None:
        super().__init__(ids, weights, seed, loads)
        self._seed = seed & MASK
        self._distinct: list[int] = []
        self._members: list[list[int]] = []
        self._cursors: list[int] = []
        self._credits: list[int] = []
        self._arrange()

    def _choose(self, key: int) -> int:
        if self._changed:
            self._regroup()
        if self._eligible_count == 0:
            return -1
        best = -1
        for group, weight in enumerate(self._distinct):
            self._credits[group] += weight * len(self._members[group])
            if self._members[group] and (best < 0 or self._credits[group] > self._credits[best]):
                best = group
        self._credits[best] -= self._eligible_weight
        cursor = self._cursors[best]
        self._cursors[best] = (cursor + 1) % len(self._members[best])
        return self._members[best][cursor]

    def _follow(self) -> None:
        super()._follow()
        previous = self._loads.leader
        if self._shares_loads and previous is not self:
            if self._changed:
                self._regroup()
            if isinstance(previous, RoundRobin):
                self._take_turns_over(previous)
            self._loads.leader = self

    def _weigh(self) -> None:
        before = self._weights
        super()._weigh()
        if self._weights != before:
            self._arrange()

    def _arrange(self) -> None:
        """Make a group for each weight; one that there was before keeps its turn.

        All begin anew when a first share is less than whole, and when the last is whole again: that
        scales the weights by which groups are known.
        """
        turns = dict(zip(self._distinct, self._cursors, strict=True))
        self._distinct = sorted(set(self._weights), reverse=True)
        self._members = [[] for _ in self._distinct]
        self._cursors = [turns.get(weight, self._seed) for weight in self._distinct]
        self._credits = [0 for _ in self._distinct]

    def _take_turns_over(self, previous: "RoundRobin") -> None:
        """Go on where another balancer was: weights keep their credit, backends their turn."""
        positions = {id(load): backend for backend, load in enumerate(self._load)}
        for group, weight in enumerate(self._distinct):
            if weight not in previous._distinct or not self._members[group]:
                continue
            other = previous._distinct.index(weight)
            self._credits[group] = previous._credits[other]
            members = previous._members[other]
            for step in range(len(members)):
                load = previous._load[members[(previous._cursors[other] + step) % len(members)]]
                backend = positions.get(id(load), -1)
                if backend in self._members[group]:
                    self._cursors[group] = self._members[group].index(backend)
                    break
        # Credits sum up to 0 between picks: the first group takes what those that went had.
        for group, members in enumerate(self._members):
            if members:
                self._credits[group] -= sum(self._credits)
                break

    def _regroup(self) -> None:
        for group, weight in enumerate(self._distinct):
            members = [b for b in self._others(-1) if self._weights[b] == weight]
            self._members[group] = members
            self._credits[group] = 0
            if members:
                self._cursors[group] %= len(members)
        self._changed = False


class _Drawing(Balancer):
    """Weighted random draws in constant time, by Walker's alias method in Vose's form.

    There is one column for each eligible backend. A column belongs to its backend up to a
    threshold, and to another, its alias, from there to the total weight.
    """

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        loads: Loads | None = None,
    ) -> None:
        super().__init__(ids, weights, seed, loads)
        self._columns: list[tuple[int, int, int]] = []

    def _draw(self) -> int:
        """Return a weighted random eligible backend; there must be one."""
        if self._changed:
            self._fill_columns()
        number = self._next_random()
        backend, threshold, alias = self._columns[((number >> 32) * self._eligible_count) >> 32]
        at = ((number & 0xFFFF_FFFF) * self._eligible_weight) >> 32
        return backend if at < threshold else alias

    def _fill_columns(self) -> None:
        owners = list(self._others(-1))
        total = self._eligible_weight
        left = [self._weights[backend] * len(owners) for backend in owners]
        self._columns = [(backend, total, backend) for backend in owners]
        small = [column for column, weight in enumerate(left) if weight < total]
        large = [column for column, weight in enumerate(left) if weight >= total]
        while small:
            column, giver = small.pop(), large[-1]
            self._columns[column] = (owners[column], left[column], owners[giver])
            left[giver] -= total - left[column]
            if left[giver] < total:
                small.append(large.pop())
        self._changed = False


class Random(_Drawing):
    """Weighted random."""

    def _choose(self, key: int) -> int:
        return -1 if self._eligible_count == 0 else self._draw()


class LeastRequest(_Drawing):
    """The less loaded of two weighted random draws, by requests in flight over weight.

    Those are of all workers, where that is known.
    """

    def _in_flight(self, backend: int) -> int:
        limit = self._limits[backend]
        return limit.total if limit is not None else self._load[backend].active

    def _choose(self, key: int) -> int:
        if self._eligible_count == 0:
            return -1
        one, other = self._draw(), self._draw()
        if one == other:
            other = self._draw()  # Once more: a single draw compares nothing.
        return self._less_loaded(one, other)

    def _choose_other(self, key: int, excluded: int) -> int:
        one, other = self._draw_other(excluded), self._draw_other(excluded)
        return self._less_loaded(one, other) if one >= 0 else one

    def _less_loaded(self, one: int, other: int) -> int:
        """Return the less loaded of two, and remember the other."""
        if self._in_flight(other) * self._weights[one] < (
            self._in_flight(one) * self._weights[other]
        ):
            one, other = other, one
        self._rival = other
        return one


class LatencyAware(Balancer):
    """Lowest latency estimate (EWMA) plus a charge for active requests, over weight.

    A failed request is reported through ``failed`` so that fast errors attract no traffic.
    Backends without an estimate, or with a stale one, are tried now and then while idle; while
    no backend has one, the fewest active requests for the weight decide.
    """

    def finished(self, backend: int, latency_ms: float = -1.0) -> None:
        super().finished(backend)
        if latency_ms >= 0.0:
            sample = min(max(MIN_LATENCY_MS, latency_ms), MAX_LATENCY_MS)
            if self._has_estimate(backend):
                estimate = self._load[backend].estimate
                sample = estimate + EWMA_ALPHA * (sample - estimate)
            self._estimate(backend, sample)

    def failed(self, backend: int, elapsed_ms: float) -> None:
        """Count a request as ended badly: the estimate rises to at least a second."""
        super().finished(backend)
        sample = min(max(FAILURE_LATENCY_MS, elapsed_ms), MAX_LATENCY_MS)
        if self._has_estimate(backend):
            sample = max(sample, self._load[backend].estimate)
        self._estimate(backend, sample)

    def learn(self, backend: int, latency_ms: float, count: int) -> None:
        """Take what so many requests took on average, as all workers saw it."""
        self._check(backend)
        if not (latency_ms >= 0.0 and count > 0):
            return
        sample = min(max(MIN_LATENCY_MS, latency_ms), MAX_LATENCY_MS)
        if self._has_estimate(backend):
            kept = (1.0 - EWMA_ALPHA) ** min(count, LEARNT_MAX)
            sample += kept * (self._load[backend].estimate - sample)
        self._estimate(backend, sample)

    def note_choice(self, chosen: int, into: Admitted) -> None:
        """Note all that were held against each other, as far as there is room."""
        self._note(chosen, 1, into)
        for backend in self._others(chosen):
            if into.candidates >= CANDIDATES_MAX:
                break
            self._note(backend, 0, into)

    def _score(self, backend: int, active: int, weight: float) -> float:
        if not self._has_estimate(backend):
            return NO_SCORE
        return (self._load[backend].estimate + ACTIVE_CHARGE_MS * active) / weight

    def _estimate(self, backend: int, estimate: float) -> None:
        self._load[backend].estimate = estimate
        self._load[backend].sampled_at = self._loads.picks

    def _has_estimate(self, backend: int) -> bool:
        age = self._loads.picks - self._load[backend].sampled_at
        return self._load[backend].estimate > 0.0 and age <= STALE_TURNS * len(self)

    def _choose_other(self, key: int, excluded: int) -> int:
        self._loads.picks += 1
        best = unknown = idle = -1
        best_score = 0.0
        for backend in self._others(excluded):
            if not self._has_estimate(backend):
                if unknown < 0 or self._is_less_loaded(backend, unknown):
                    unknown = backend
                if idle < 0 and self._load[backend].active == 0:
                    idle = backend
                continue
            load = ACTIVE_CHARGE_MS * self._load[backend].active
            score = (self._load[backend].estimate + load) / self._weights[backend]
            if (
                best < 0
                or score < best_score
                or (score == best_score and self._load[backend].active < self._load[best].active)
            ):
                best, best_score = backend, score
        if best < 0:
            return unknown
        return idle if idle >= 0 and self._loads.picks % PROBE_EVERY == 0 else best


class _Hashing(Balancer):
    """What ring and Maglev share: load bounds, and ranking when nothing eligible is near."""

    def _weigh(self) -> None:
        """Leave the weights as they are: the layout is made of them."""

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        balance_factor: float = 0.0,
        loads: Loads | None = None,
    ) -> None:
        super().__init__(ids, weights, seed, loads)
        if balance_factor != 0.0 and not (isfinite(balance_factor) and balance_factor >= 1.0):
            raise ValueError("balance_factor must be 0 (none) or at least 1.0")
        self._balance_factor = balance_factor
        self._id_hashes = [hash_key(identity) for identity in ids]
        # Layouts are made in the order of the ids, so that the order given does not matter.
        self._by_id = sorted(range(len(ids)), key=lambda backend: ids[backend])

    def _choose_other(self, key: int, excluded: int) -> int:
        if self._eligible_count - self._counts_in(excluded) == 0:
            return -1
        backend = self._locate(key, excluded)
        if self._balance_factor == 0.0:
            return backend
        self._rival = backend
        self._eligible_active = sum(self._load[other].active for other in self._others(-1))
        for jump in range(1, MAX_OVERFLOW_JUMPS + 1):
            if self._has_room(backend, excluded):
                return backend
            # To a random place, not the neighbour: one full backend must not fill the next.
            backend = self._locate(mix((key + jump * GOLDEN) & MASK), excluded)
        return backend if self._has_room(backend, excluded) else self._least_loaded(excluded)

    def _score(self, backend: int, active: int, weight: float) -> float:
        """Return how much of its bound a backend had in flight; without one it has no score."""
        if self._eligible_weight == 0:
            return NO_SCORE
        bound = self._balance_factor * weight * (self._eligible_active + 1) / self._eligible_weight
        return active / bound

    def _locate(self, key: int, excluded: int) -> int:
        """Return the eligible backend other than ``excluded`` for a key; there must be one."""
        return self._rank(key, excluded)

    def _has_room(self, backend: int, excluded: int) -> bool:
        """Return whether one more request keeps a backend within its bound.

        The bound is ``ceil(balance_factor * fair share of (active + 1))``. The least loaded
        backend always has room: a factor of 1 or more leaves places for all requests.
        """
        active, weight = self._eligible_active, self._eligible_weight
        if self._counts_in(excluded):
            active -= self._load[excluded].active
            weight -= self._weights[excluded]
        share = self._balance_factor * self._weights[backend] * (active + 1)
        return self._load[backend].active * weight < share

    def _least_loaded(self, excluded: int) -> int:
        best = -1
        for backend in self._others(excluded):
            if best < 0 or self._is_less_loaded(backend, best):
                best = backend
        return best

    def _rank(self, key: int, excluded: int) -> int:
        """Return the backend of a key by weighted rendezvous hashing, in O(backends)."""
        best, best_score = -1, 0.0
        for backend in self._others(excluded):
            number = mix(key ^ self._id_hashes[backend])
            score = -log(((number >> 12) + 0.5) * 2.0**-52) / self._weights[backend]
            if best < 0 or score < best_score:
                best, best_score = backend, score
        return best


def _points(weight: int, median: int, of_median: int) -> int:
    return max(1, (of_median * weight + median // 2) // median)


class RingHash(_Hashing):
    """Consistent hashing on a ring.

    A key belongs to the first point at or after it. Points come from the backend's id alone,
    their number from its weight over the median weight, which one backend's hardly moves: so a
    backend that joins, leaves or gets another weight moves the keys that it gains or loses, and
    no others. Backends that are not eligible are walked past, not removed.

    Arguments:
        balance_factor: 0 for none, else at least 1.0: a backend takes at most this times its fair
            share of active requests, and the overflow jumps elsewhere (bounded load).
    """

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        balance_factor: float = 0.0,
        loads: Loads | None = None,
    ) -> None:
        super().__init__(ids, weights, seed, balance_factor, loads)
        self._median, self._of_median = self._density()
        points = [
            (mix((self._id_hashes[backend] + number * GOLDEN) & MASK), rank)
            for rank, backend in enumerate(self._by_id)
            for number in range(1, self._point_count(backend) + 1)
        ]
        points.sort()
        self._positions = [position for position, _ in points]
        self._owners = [self._by_id[rank] for _, rank in points]

    def _density(self) -> tuple[int, int]:
        """Return the median weight, the lower of two, and how many points a backend of it has.

        In steps, so that of a large ring a change of one weight seldom changes it.
        """
        if not self._weights:
            return 1, RING_POINTS
        median = sorted(self._weights)[(len(self._weights) - 1) // 2]
        points = RING_POINTS
        while points > 1 and points * sum(self._weights) > MAX_RING_POINTS * median:
            points -= max(1, points >> 4)
        # With weights far from each other one point for the median may be too many.
        most = max(MAX_RING_POINTS, len(self._weights))
        while sum(_points(weight, median, points) for weight in self._weights) > most:
            median += max(1, median >> 4)
        return median, points

    def _point_count(self, backend: int) -> int:
        return _points(self._weights[backend], self._median, self._of_median)

    def _locate(self, key: int, excluded: int) -> int:
        owners = self._owners
        at = bisect_left(self._positions, key)
        for _ in range(min(MAX_RING_WALK, len(owners))):
            if at == len(owners):
                at = 0
            if self._is_eligible(owners[at]) and owners[at] != excluded:
                return owners[at]
            at += 1
        return self._rank(key, excluded)


class Maglev(_Hashing):
    """Maglev hashing on a table of prime size.

    Backends take the slots of the table in turns, as often as their weights say. The slot of a
    key names its backend; if that is not eligible, the key is hashed again to another slot, so
    only the keys of that backend move, and return with it. A backend that joins or leaves moves
    its share and a little more.

    Arguments:
        balance_factor: As for ``RingHash``.
    """

    def __init__(
        self,
        ids: Sequence[bytes],
        weights: Sequence[int],
        seed: int = 0,
        balance_factor: float = 0.0,
        loads: Loads | None = None,
    ) -> None:
        super().__init__(ids, weights, seed, balance_factor, loads)
        if len(ids) >= MAGLEV_SIZE:
            raise ValueError(f"Maglev takes fewer than {MAGLEV_SIZE} backends")
        self._table = self._fill_table() if ids else []

    def _fill_table(self) -> list[int]:
        table = [-1] * MAGLEV_SIZE
        slots = [self._id_hashes[backend] % MAGLEV_SIZE for backend in self._by_id]
        skips = [mix(self._id_hashes[b]) % (MAGLEV_SIZE - 1) + 1 for b in self._by_id]
        heaviest = max(self._weights)
        earned = [0] * len(slots)
        filled = 0
        while True:
            for rank, backend in enumerate(self._by_id):
                earned[rank] += self._weights[backend]
                if earned[rank] < heaviest:
                    continue
                earned[rank] -= heaviest
                slot = slots[rank]
                while table[slot] >= 0:
                    slot = (slot + skips[rank]) % MAGLEV_SIZE
                table[slot] = backend
                slots[rank] = slot
                filled += 1
                if filled == MAGLEV_SIZE:
                    return table

    def _locate(self, key: int, excluded: int) -> int:
        probe = key
        for _ in range(MAX_MAGLEV_PROBES):
            backend = self._table[probe % MAGLEV_SIZE]
            if self._is_eligible(backend) and backend != excluded:
                return backend
            probe = mix((probe + GOLDEN) & MASK)
        return self._rank(key, excluded)
