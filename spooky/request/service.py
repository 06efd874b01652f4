"""Where requests come together: the generation in force, the accounts, the access log."""

import time
from collections.abc import Callable

from spooky._core.access_record import AccessRecord
from spooky._core.accounts import Accounts, Timings
from spooky._core.reasons import Reason
from spooky._core.service import Service
from spooky.generation.generation import Generation
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters, SlotName, reason_labels
from spooky.observe.decisions import ring_of
from spooky.overload.held import held_places
from spooky.overload.places import shared_places
from spooky.request.exchange import Exchange
from spooky.runtime import Runtime


class RequestService(Service):
    """What the exchanges of one worker share.

    What every request passes is :mod:`spooky._core.pure.service`.

    Arguments:
        runtime: The worker's.
        generation: What is in force at first.
        counters: The worker's slots.
        access_log: Where each exchange leaves a line, if anywhere.
        slot: The worker's number; part of request ids.
        on_switched: Called with the generation that was superseded, in the request head that found
            out: what there is to do comes later.
        on_behind: Called with the number of the generation in force, which this worker does not
            have.

    Attributes:
        generation: What was in force when the last request head arrived.
        prepared: What comes next, if it is known.
    """

    generation: Generation

    def __init__(
        self,
        runtime: Runtime,
        generation: Generation,
        counters: Counters,
        access_log: AccessLog | None,
        slot: int,
        on_switched: Callable[[Generation], None] = lambda _: None,
        on_behind: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(
            runtime,
            generation,
            counters.segment,
            Exchange,
            held_places(counters),
            shared_places(counters, "retry body bytes"),
        )
        self._slot = slot
        self.begin_ids()
        self.prepared: Generation | None = None
        self.access_log = access_log
        self._counters = counters
        self._on_switched = on_switched
        self._on_behind = on_behind
        self._stays = False
        self._accounts = Accounts(
            counters.values,
            counters.slot("requests_active"),
            counters.slot("request_body_bytes_total"),
            counters.slot("response_body_bytes_total"),
            self._outcome,
            self._time,
        )
        self._decisions = ring_of(counters.segment, counters.worker)
        self.keep_decisions(generation.configuration.observability.decisions.bytes)

    @property
    def active(self) -> int:
        """Exchanges that have not finished."""
        active: int = self._accounts.active
        return active

    def forget(self, is_used: Callable[[SlotName], bool]) -> None:
        """Give up the counts of what is no more."""
        if self._counters.forget(is_used):
            self._accounts.forget()

    def stay(self) -> None:
        """Serve by what was in force last, whatever comes in force later."""
        self._stays = True

    def switch(self, number: int) -> Generation | None:
        """Return what is in force now, which is another one; ``None`` if this worker lacks it."""
        if self._stays:
            return self.generation
        prepared = self.prepared
        if prepared is None or prepared.number != number:
            self._on_behind(number)
            return None
        superseded, self.generation, self.prepared = self.generation, prepared, None
        self._on_switched(superseded)
        return prepared

    def keep_decisions(self, size: int) -> None:
        """Keep so many bytes of what becomes of requests from now on."""
        self._decisions.resize(size)
        self.keeps_decisions = size > 0

    def begin_ids(self) -> None:
        """Count ids under another second: unique across restarts, and sortable."""
        self._id_prefix = f"{self._slot:02x}{int(time.time()):08x}"

    def count(self, metric: str, **labels: str) -> None:
        """Count something out of the ordinary."""
        self._counters.values[self._counters.slot(metric, labels)] += 1

    def observe(self, metric: str, seconds: float, **labels: str) -> None:
        """Time something out of the ordinary."""
        self._counters.histogram(metric, labels).observe(seconds)

    def _outcome(self, protocol: str, record: AccessRecord, reason: Reason) -> int:
        """Return the slot that counts requests which ended like this one."""
        labels = {
            "protocol": protocol,
            "upstream": record.upstream,
            "backend": record.backend,
            "status_class": f"{record.status // 100}xx" if record.status else "none",
            **reason_labels(reason),
        }
        return self._counters.slot("requests_total", labels)

    def _time(self, upstream: str) -> Timings:
        labels = {"upstream": upstream}
        return Timings(
            self._counters.histogram("request_duration_seconds", labels),
            self._counters.histogram("upstream_connect_seconds", labels),
            self._counters.histogram("upstream_first_byte_seconds", labels),
        )
