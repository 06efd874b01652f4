"""Which backend of an upstream gets a request."""

from collections.abc import Sequence

from spooky._core.decisions import Admitted
from spooky._core.shared import Limit

RING_LAYOUT_VERSION: int
"""Changes when the placement of backends on a ring or in a Maglev table does."""

def hash_key(key: bytes) -> int:
    """Return the 64-bit hash of a balancing key; stable across processes and releases.

    It is XXH64 with seed 0.
    """

class Loads:
    """What outlives a balancer when weights or backends change: loads, random numbers and turns.

    Balancers that are made with the same loads, one after the other, know of the same requests: one
    that began under the first is counted until it ends, and is seen by the next.

    Arguments:
        seed: Of the random numbers.
    """

    def __init__(self, seed: int = 0) -> None: ...
    def forget_turns(self) -> None:
        """Let go of the balancer that picked last; call it when no other will be made."""

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
    ) -> None: ...
    def __len__(self) -> int: ...
    def pick(self, key: int = 0) -> int:
        """Return the backend for a request, or -1 if none is eligible.

        Arguments:
            key: ``hash_key`` of the balancing key; ignored by those that do not hash.
        """

    def pick_other(self, key: int, excluded: int) -> int:
        """Return a backend other than ``excluded``, or -1; for a second try."""

    def set_eligible(self, backend: int, eligible: bool) -> None:
        """Put a backend in or out of the choice, for all balancers with the same loads."""

    def set_share(self, backend: int, percent: int) -> None:
        """Give a backend only so much of its weight, for all balancers with the same loads.

        Those that hash go by the whole weight all the same: else keys would move.

        Raises:
            ValueError: It is not 1 to 100.
        """

    def drain(self, backend: int) -> None:
        """Choose a backend no more, in this balancer alone; its place on a ring stays."""

    def count_by(self, backend: int, limit: Limit) -> None:
        """Go by what all workers have in flight to a backend, where two are held together.

        Only ``LeastRequest`` does. :meth:`started` and :meth:`finished` are owed all the same.

        Arguments:
            limit: Takes a place for each request.
        """

    def started(self, backend: int) -> None:
        """Count a request as active on a backend."""

    def finished(self, backend: int, latency_ms: float = -1.0) -> None:
        """Count a request as ended.

        Arguments:
            latency_ms: Time to the response head; negative gives no latency sample.
        """

    def failed(self, backend: int, elapsed_ms: float) -> None:
        """Count a request as ended badly, after so long; do not call ``finished`` as well."""

    def excluded(self) -> int:
        """Return how many backends were not in the choice at the last pick."""

    def is_eligible(self, backend: int) -> bool:
        """Return whether a backend is in the choice."""

    def version(self) -> int:
        """Return another number whenever a backend came in or out of the choice, by its loads."""

    def note_choice(self, chosen: int, into: Admitted) -> None:
        """Note the backends that were held against each other, by a number, at the last pick.

        Balancers that compare none note none.

        Arguments:
            chosen: Who got the request, which is counted as active there by now.
        """

    def active(self, backend: int) -> int:
        """Return the number of active requests on a backend."""

class RoundRobin(Balancer):
    """Smooth weighted round-robin.

    Backends of one weight form a group and take turns; the groups take turns by nginx's smooth
    algorithm: each earns its weight at every pick, the richest is picked and pays for all. So a
    pick costs one step for each distinct weight, and no sequence is stored, however long. The
    turns begin at backend ``seed`` of each group, so that workers do not move in step.
    """

class Random(Balancer):
    """Weighted random."""

class RingHash(Balancer):
    """Consistent hashing on a ring.

    A key belongs to the first point at or after it. Points come from the backend's id alone,
    their number from its weight over the mean weight: a backend that joins or leaves moves about
    its own share of the keys, and backends that are not eligible are walked past, not removed.

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
    ) -> None: ...

class Maglev(Balancer):
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
    ) -> None: ...

class LeastRequest(Balancer):
    """The less loaded of two weighted random draws, by active requests over weight."""

class LatencyAware(Balancer):
    """Lowest latency estimate (EWMA) plus a charge for active requests, over weight.

    A failed request is reported through ``failed`` so that fast errors attract no traffic.
    Backends without an estimate, or with a stale one, are tried now and then while idle; while
    no backend has one, the fewest active requests for the weight decide.
    """

    def failed(self, backend: int, elapsed_ms: float) -> None:
        """Count a request as ended badly: the estimate rises to at least a second."""

    def learn(self, backend: int, latency_ms: float, count: int) -> None:
        """Take what so many requests took on average, as all workers saw it.

        Arguments:
            latency_ms: Negative or not a number for nothing to learn.
            count: How many; few move the estimate little.
        """
