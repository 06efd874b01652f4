"""What is counted of client connections that end by their client's fault."""

from typing import Final

from spooky._core import reasons
from spooky._core.reasons import Fault, Reason
from spooky.edge.glitches import BROKEN
from spooky.observe.counters import Counters, reason_labels

_GIVEN_UP: Final = (reasons.CLIENT_CONNECTION_LOST, reasons.CLIENT_RESET)


class Closings:
    """Counts connections that were closed as their client broke a rule or a limit, by why.

    Arguments:
        counters: The worker's slots.
        transport: ``quic`` or ``tcp``.
    """

    def __init__(self, counters: Counters, transport: str) -> None:
        self._counters = counters
        self._transport = transport
        # The usual ones are there from the start, so that the first is seen as a rise.
        for reason in BROKEN:
            self._slot(reason)

    def count(self, reason: Reason | None) -> None:
        """Count a connection that ended, if its client is to blame.

        Arguments:
            reason: Why it ended; ``None`` if its session did not say.
        """
        if reason is None or reason.fault is not Fault.CLIENT or reason in _GIVEN_UP:
            return
        self._counters.values[self._slot(reason)] += 1

    def _slot(self, reason: Reason) -> int:
        labels = {"transport": self._transport, **reason_labels(reason)}
        return self._counters.slot("connections_closed_total", labels)
