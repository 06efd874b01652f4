# cython: annotation_typing=False
"""Counting requests: how many are under way, how they ended, and how long they took.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What is counted under
which name is said in ``request/service.py``.
"""

from abc import abstractmethod
from collections.abc import Callable

from spooky._core.access_record import AccessRecord
from spooky._core.reasons import Reason
from spooky._core.shared import Histogram

Name = Callable[[str, AccessRecord, Reason], int]
"""Gives the position of what counts requests that ended like this one."""


class Timings:
    """Where the durations of an upstream's requests are counted.

    Arguments:
        duration: From the head to the end.
        connect: From the head to a backend's connection.
        first_byte: From the head to the response's.
    """

    def __init__(self, duration: Histogram, connect: Histogram, first_byte: Histogram) -> None:
        self.duration = duration
        self.connect = connect
        self.first_byte = first_byte

    def observe(self, record: AccessRecord, now: float) -> None:
        """Count the durations of a request that ends now."""
        self.duration.observe(now - record.started)
        if record.connected >= 0:
            self.connect.observe(record.connected - record.started)
        if record.first_byte >= 0:
            self.first_byte.observe(record.first_byte - record.started)


class Lots:
    """Counts what is told to others in lots, as to tell them of each costs more.

    Arguments:
        lot: So many are told of at once.

    Attributes:
        untold: Counted by this worker, and not known to the others yet.
    """

    def __init__(self, lot: int) -> None:
        self.untold = 0
        self._lot = lot

    def count_request(self, now: float) -> None:
        """Count a request."""
        self.untold += 1
        if self.untold >= self._lot:
            self._tell(now)

    @abstractmethod
    def _tell(self, now: float) -> None:
        """Tell the others of what they do not know yet."""


class Accounts:
    """Counts the requests of one worker.

    Arguments:
        values: The worker's numbers.
        active: Position of what counts requests under way.
        received: Position of what counts bytes of their bodies.
        sent: Position of what counts bytes of their responses' bodies.
        name: Called once for every new kind of end.
        time: Called with an upstream's name, once for each.

    Attributes:
        active: Requests under way.
    """

    def __init__(
        self,
        values: "memoryview[int]",
        active: int,
        received: int,
        sent: int,
        name: Name,
        time: Callable[[str], Timings],
    ) -> None:
        self.active = 0
        self._values = values
        self._active = active
        self._received = received
        self._sent = sent
        self._name = name
        self._time = time
        self._outcomes: dict[tuple[str, str, str, int, int], int] = {}
        self._timings: dict[str, Timings] = {}

    def forget(self) -> None:
        """Ask again for what counts outcomes and durations, as it may have changed its place."""
        self._outcomes.clear()
        self._timings.clear()

    def began(self) -> None:
        """Count a request as under way."""
        self.active += 1
        self._values[self._active] += 1

    def ended(self, protocol: str, record: AccessRecord, reason: Reason, now: float) -> None:
        """Count a request as ended.

        Arguments:
            protocol: What the client's connection speaks.
            record: What became of it.
            reason: Why it ended.
            now: Seconds.
        """
        self.active -= 1
        self._values[self._active] -= 1
        key = (protocol, record.upstream, record.backend, record.status // 100, reason.index)
        outcome = self._outcomes.get(key)
        if outcome is None:
            outcome = self._outcomes[key] = self._name(protocol, record, reason)
        position: int = outcome
        self._values[position] += 1
        self._values[self._received] += record.bytes_received
        self._values[self._sent] += record.bytes_sent
        timings = self._timings.get(record.upstream)
        if timings is None:
            timings = self._timings[record.upstream] = self._time(record.upstream)
        timings.observe(record, now)
