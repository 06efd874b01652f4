"""Whether a request that failed is sent to a backend once more, and when."""

from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

from spooky._core.reasons import Reason, Retry
from spooky.overload.hedging import HedgePolicy
from spooky.overload.retry_budget import RetryBudget


@dataclass(frozen=True, slots=True, eq=False)
class RetryPolicy:
    """When requests to one upstream are tried again.

    Attributes:
        conditions: After which failures.
        connect_tries: More tries after failures to connect.
        tries: More tries after all other failures together.
        methods: Of requests that may be sent again though a backend may have acted on them.
        statuses: What a backend answers when another one is to be tried.
        try_timeout: What one try may take to its response head; seconds, ``None`` for no limit.
        backoff_base: Longest wait before the first return to a backend that failed; seconds.
        backoff_max: Longest wait of all; seconds.
        body_max: Largest body kept to be sent again; bytes.
        body_places_max: Bytes of such bodies kept at once, by all workers.
        budget: Bounds retries and hedges; ``None`` for no bound.
        hedging: When a second backend is asked beside the first; ``None`` for never.
        is_timed: Whether anything happens some time after a try begins.
    """

    conditions: frozenset[Retry]
    connect_tries: int
    tries: int
    methods: frozenset[bytes]
    statuses: frozenset[int]
    try_timeout: float | None
    backoff_base: float
    backoff_max: float
    body_max: int
    body_places_max: int
    budget: RetryBudget | None
    hedging: HedgePolicy | None
    is_timed: bool = field(init=False)

    def __post_init__(self) -> None:
        is_timed = self.try_timeout is not None or self.hedging is not None
        # Looked at by every request, so it is not worked out each time.
        object.__setattr__(self, "is_timed", is_timed)

    def backoff(self, returns: int, chance: float) -> float:
        """Return how long to wait before a backend is tried that failed already; seconds.

        Arguments:
            returns: How often this request came back to a backend before.
            chance: From 0 to 1, drawn anew each time: who failed together does not return together.
        """
        longest = min(self.backoff_base * (1 << returns), self.backoff_max)
        return longest * chance


class Verdict(StrEnum):
    """Whether a failure may be followed by another try, or why not."""

    ALLOWED = "allowed"
    CONDITION = "condition"
    METHOD = "method"
    BODY = "body"
    BEGUN = "begun"
    TRIES = "tries"
    PAUSE = "pause"
    """The backend asks to be left alone for longer than a pause may be."""
    BUDGET = "budget"


class Allowance:
    """How many more tries a request has, by what went wrong so far."""

    __slots__ = ("connect_failures", "others", "returns")

    def __init__(self) -> None:
        self.connect_failures = 0
        self.others = 0
        self.returns = 0

    def judge(
        self, policy: RetryPolicy, reason: Reason, method: bytes, *, begun: bool, replayable: bool
    ) -> Verdict:
        """Tell whether a failure may be followed by another try.

        Arguments:
            policy: The upstream's.
            reason: Why the last try failed; its row says on which condition it is tried again.
            method: The request's.
            begun: Whether the client was sent anything of a response.
            replayable: Whether all of the body that was sent can be sent again.
        """
        condition = reason.retryable
        if condition not in policy.conditions:
            return Verdict.CONDITION
        if begun:
            return Verdict.BEGUN
        if not condition.is_unprocessed and method not in policy.methods:
            return Verdict.METHOD
        if not replayable:
            return Verdict.BODY
        if condition is Retry.CONNECT:
            left = policy.connect_tries - self.connect_failures
        else:
            left = policy.tries - self.others
        return Verdict.ALLOWED if left > 0 else Verdict.TRIES

    def take(self, reason: Reason) -> None:
        """Count a try that follows a failure."""
        if reason.retryable is Retry.CONNECT:
            self.connect_failures += 1
        else:
            self.others += 1


def retry_after_seconds(fields: list[tuple[bytes, bytes]], wall_time: float) -> float:
    """Return how long a response asks to be left alone (RFC 9110 section 10.2.3); 0 if it does not.

    Arguments:
        fields: Of the response head.
        wall_time: Seconds since 1970.
    """
    for name, value in fields:
        if name == b"retry-after":
            return _seconds_of(value, wall_time)
    return 0.0


def _seconds_of(value: bytes, wall_time: float) -> float:
    """Return the seconds that a ``Retry-After`` means; 0 for one that means nothing."""
    if value.isdigit():
        # Longer than any wait of ours, so digits beyond these change nothing.
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - wall_time)
