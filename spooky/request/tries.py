"""What an exchange remembers of its tries from when more than one is thought of."""

from spooky._core.attempt import Attempt
from spooky._core.reasons import Reason
from spooky._core.timers import Timer
from spooky.overload.retry import Allowance


class Tries:
    """The tries of one exchange, and what is due because of them.

    Attributes:
        allowance: How many more there may be.
        failed: Positions of the backends that failed.
        cause: Why the try under way is not the first; ``None`` where it is.
        rival: The try that is under way beside the exchange's own.
        hedge: Which of the two was begun because the other took long; ``None`` if none was.
        hedge_timer: When another is begun because the first takes long.
        try_timer: When the try under way has taken too long.
        pause_timer: When the next try begins.
        is_denied: Whether a failure may be followed by no other try any more.
        is_paid: Whether the budget was asked for a try that did not begin yet.
    """

    __slots__ = (
        "allowance", "cause", "failed", "hedge", "hedge_timer", "is_denied", "is_paid",
        "pause_timer", "rival", "try_timer",
    )  # fmt: skip

    def __init__(self) -> None:
        self.allowance = Allowance()
        self.failed: set[int] = set()
        self.cause: Reason | None = None
        self.rival: Attempt | None = None
        self.hedge: Attempt | None = None
        self.hedge_timer: Timer | None = None
        self.try_timer: Timer | None = None
        self.pause_timer: Timer | None = None
        self.is_denied = False
        self.is_paid = False

    def note_end(self, attempt: Attempt) -> None:
        """Remember a try that ended."""
        self.failed.add(attempt.admission.index)

    def stop_timers(self) -> None:
        """Have nothing come due any more."""
        for timer in (self.hedge_timer, self.try_timer, self.pause_timer):
            if timer is not None:
                timer.cancel()
        self.hedge_timer = self.try_timer = self.pause_timer = None
