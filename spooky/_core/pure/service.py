# cython: annotation_typing=False
"""Where requests begin and end: what is in force, their ids, what is made of them.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What is out of the
ordinary, and what is counted under which name, is in ``request/service.py``.
"""

from typing import Any, Final

from spooky._core.access_record import AccessRecord
from spooky._core.gate import Places
from spooky._core.reasons import Reason
from spooky._core.shared import Segment
from spooky._core.terms import Client, InForce
from spooky._core.turns import Turns

SEQUENCE_MAX: Final = 0xFFFF_FFFF
"""Most requests under one prefix of ids; the digits of an id allow for no more."""

_SEQUENCE_MAX = SEQUENCE_MAX


class Service:
    """What the exchanges of one worker share, as far as every request needs it.

    Arguments:
        runtime: The worker's.
        generation: What is in force at first.
        segment: Says what is in force.
        exchange: The class of exchanges.
        held: Counts request body bytes held by all exchanges of all workers together.
        kept: Counts those kept to be sent again, likewise.

    Attributes:
        runtime: The worker's.
        generation: What was in force when the last request head arrived.
        access_log: Where each exchange leaves a line, if anywhere.
        held: Request body bytes held by all exchanges of all workers together.
        kept: Request body bytes kept to be sent again, likewise.
        keeps_decisions: Whether what becomes of requests is kept in the segment.
    """

    def __init__(
        self,
        runtime: Turns,
        generation: InForce,
        segment: Segment,
        exchange: Any,
        held: Places,
        kept: Places,
    ) -> None:
        self.runtime = runtime
        self.generation = generation
        self.access_log: Any = None
        self.held = held
        self.kept = kept
        self.keeps_decisions = False
        self._segment = segment
        self._exchange = exchange
        # The subclass has these count and keep.
        self._accounts: Any = None
        self._decisions: Any = None
        self._sequence = 0
        self._id_prefix = ""

    def switch(self, number: int) -> InForce | None:
        """Return what is in force now, which is another one; ``None`` if this worker lacks it."""
        return None

    def begin_ids(self) -> None:
        """Give ids another prefix: the numbers begin anew."""

    def count(self, metric: str, **labels: str) -> None:
        """Count something out of the ordinary."""

    def observe(self, metric: str, seconds: float, **labels: str) -> None:
        """Time something out of the ordinary."""

    def accept(self, stream: Any, client: Client) -> Any:
        """Return the exchange for a new client stream."""
        self._accounts.began()
        self.runtime.under_way += 1
        return self._exchange(self, stream, client)

    def in_force(self) -> InForce | None:
        """Return what serves a request whose head arrives now; ``None`` if this worker lacks it.

        The number in the shared segment decides, so that all workers switch at one instant.
        """
        generation = self.generation
        number = self._segment.generation
        if number == generation.number:
            return generation
        return self.switch(number)

    def next_request_id(self) -> str:
        """Return an id that no other request of this machine has."""
        self._sequence += 1
        if self._sequence > _SEQUENCE_MAX:
            self._sequence = 1
            self.begin_ids()
        return f"{self._id_prefix}{self._sequence:08x}"

    def finished(self, client: Client, stream: Any, record: AccessRecord, reason: Reason) -> None:
        """Account an exchange that ended."""
        runtime = self.runtime
        runtime.under_way -= 1
        now = runtime.clock()
        protocol = stream.protocol
        self._accounts.ended(protocol, record, reason, now)
        if self.keeps_decisions:
            record.keep(self._decisions, now, reason, protocol)
        if self.access_log is not None:
            record.close(now, reason, client.address, client.port, protocol, client.is_early)
            if self.access_log.write(record):
                runtime.mark(self.access_log)
