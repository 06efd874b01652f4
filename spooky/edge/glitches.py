"""One account of a client's oddities, for each connection and for each source."""

from enum import Enum
from typing import Final

from spooky._core import reasons
from spooky._core.arrivals import SECOND, source_of
from spooky._core.balance import hash_key
from spooky._core.reasons import Reason
from spooky.config.glitches import Glitches
from spooky.observe.counters import Counters
from spooky.overload.manager import Measures
from spooky.request.client_address import TrustedProxies

GOAWAY_SHARE: Final = 0.75
"""Of a budget: from here on a connection takes no more requests."""

BROKEN_WEIGHT: Final = 10
"""How many oddities a connection is worth that ends by the client's fault: it took a handshake, or
what makes it one is over with it."""

BROKEN: Final = frozenset(
    (
        reasons.CLIENT_PROTOCOL_ERROR,
        reasons.CLIENT_EXCESSIVE_LOAD,
        reasons.CLIENT_HEAD_TIMEOUT,
    )
)
"""Why such a connection ends."""


WHOLE, MOST = "glitches", "most glitches"
"""What the buckets of a source are called: for its budget, and for what is spent of that early."""


class Verdict(Enum):
    """What becomes of a connection."""

    NOTHING = "nothing"
    GOAWAY = "goaway"
    CLOSE = "close"


class GlitchBook:
    """The accounts of a listener's clients; those of sources are all workers'.

    Arguments:
        counters: The worker's slots.
        overload: What is done against overload, and how late the loop is.
        transport: ``quic`` or ``tcp``.
    """

    def __init__(self, counters: Counters, overload: Measures, transport: str) -> None:
        self._segment = counters.segment
        self._overload = overload
        self._values = counters.values
        self._glitches = counters.slot("glitches_total", {"transport": transport})
        self._consequences = {
            verdict: counters.slot(
                "glitch_consequences_total",
                {"transport": transport, "consequence": verdict.value},
            )
            for verdict in (Verdict.GOAWAY, Verdict.CLOSE)
        }

    def is_pressed(self, policy: Glitches) -> bool:
        """Return whether accounts have consequences now."""
        overload = self._overload
        return overload.acts or 100 * overload.lag_pressure >= policy.min_pressure_percent

    def spend(self, policy: Glitches, address: str | None, count: int, now: float) -> Verdict:
        """Count oddities, and take them off a source's budget, if there is one."""
        self._values[self._glitches] += count
        budget = policy.source_budget
        if budget is None or address is None:
            return Verdict.NOTHING
        whole, most = (_source_key(of, address) for of in (WHOLE, MOST))
        take, nanoseconds = self._segment.take_source_rate, int(now * SECOND)
        interval = _interval(policy)
        soft = _soft(budget)
        verdict = Verdict.NOTHING
        for _ in range(count):
            if not take(whole, nanoseconds, interval, budget):
                return Verdict.CLOSE
            if not take(most, nanoseconds, interval, soft):
                verdict = Verdict.GOAWAY
        return verdict

    def refuses(self, policy: Glitches, proxies: TrustedProxies, address: str, now: float) -> bool:
        """Return whether a source may begin no connections now.

        It may not from three quarters of its budget on: where all of it counts, the first token
        comes back within milliseconds, and who broke a connection for its last one is back at once.

        Arguments:
            proxies: They speak for many, and are never refused.
            address: Of a client, or of one of those.
        """
        budget = policy.source_budget
        return (
            budget is not None
            and self.is_pressed(policy)
            and not proxies.trusts(address)
            and self._segment.is_source_out(
                _source_key(WHOLE, address), int(now * SECOND), _interval(policy), _soft(budget)
            )
        )

    def count(self, verdict: Verdict) -> None:
        """Count a consequence."""
        self._values[self._consequences[verdict]] += 1


class GlitchAccount:
    """What a connection and its source have spent.

    Arguments:
        book: The listener's.
        policy: The budgets.
        address: Where the client is.
        is_shared: Whether that is where many clients are, as a trusted proxy: no account of the
            source then.

    Attributes:
        seen: How many oddities of the connection were taken note of.
    """

    __slots__ = ("_address", "_at", "_book", "_policy", "_spent", "_verdict", "seen")

    def __init__(
        self, book: GlitchBook, policy: Glitches, address: str, is_shared: bool = False
    ) -> None:
        self.seen = 0
        self._book = book
        self._policy = policy
        self._address = None if is_shared else address
        self._spent = 0.0
        self._at = 0.0
        self._verdict = Verdict.NOTHING

    def see(self, total: int, now: float) -> Verdict:
        """Take note of how many oddities there have been in all.

        Arguments:
            total: Of the connection.
            now: Seconds on the monotonic clock.

        Returns:
            What is to be done and was not before.
        """
        count = total - self.seen
        self.seen = total
        policy = self._policy
        forgotten = (now - self._at) * policy.connection_refill_per_sec
        self._spent = max(0.0, self._spent - forgotten) + count
        self._at = now
        verdict = self._book.spend(policy, self._address, count, now)
        budget = policy.connection_budget
        if budget is not None and verdict is not Verdict.CLOSE:
            if self._spent >= budget:
                verdict = Verdict.CLOSE
            elif self._spent >= GOAWAY_SHARE * budget:
                verdict = Verdict.GOAWAY
        is_new = verdict not in (Verdict.NOTHING, self._verdict)
        if not is_new or self._verdict is Verdict.CLOSE or not self._book.is_pressed(policy):
            return Verdict.NOTHING
        self._verdict = verdict
        self._book.count(verdict)
        return verdict

    def ended(self, reason: Reason | None, now: float) -> None:
        """Learn why the connection ended; its client's address is proven."""
        if reason in BROKEN:
            self._book.spend(self._policy, self._address, BROKEN_WEIGHT, now)


def _source_key(bucket: str, address: str) -> int:
    return hash_key(f"{bucket} {source_of(address)}".encode())


def _soft(budget: int) -> int:
    return max(1, int(GOAWAY_SHARE * budget))


def _interval(policy: Glitches) -> int:
    return max(1, SECOND // policy.source_refill_per_sec)
