"""Where requests come together: the generation in force, the accounts, the access log."""

import time
from collections.abc import Callable
from typing import Final

from spooky._core.access_record import AccessRecord
from spooky._core.accounts import Accounts, Timings
from spooky._core.reasons import Reason
from spooky.generation.generation import Generation
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters, SlotName, reason_labels
from spooky.observe.decisions import ring_of
from spooky.overload.places import shared_places
from spooky.protocol.stream import Stream, StreamHandler
from spooky.request.client import Client
from spooky.request.exchange import Exchange
from spooky.runtime import Runtime

SEQUENCE_MAX: Final = 0xFFFF_FFFF
"""Most requests under one prefix of ids; the digits of an id allow for no more."""


class RequestService:
    """What the exchanges of one worker share.

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
        held: Request body bytes held by all exchanges of all workers together.
        keeps_decisions: Whether what becomes of requests is kept in the segment.
        kept: Request body bytes kept to be sent again, likewise.
    """

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
        self.runtime = runtime
        self.generation = generation
        self.prepared: Generation | None = None
        self.access_log = access_log
        self.held = shared_places(counters, "request body bytes")
        self.kept = shared_places(counters, "retry body bytes")
        self._counters = counters
        self._segment = counters.segment
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
        self._slot = slot
        self._sequence = 0
        self._begin_ids()
        self._decisions = ring_of(self._segment, counters.worker)
        self.keeps_decisions = False
        self.keep_decisions(generation.configuration.observability.decisions.bytes)

    def accept(self, stream: Stream, client: Client) -> StreamHandler:
        """Return the exchange for a new client stream."""
        self._accounts.began()
        return Exchange(self, stream, client)

    @property
    def active(self) -> int:
        """Exchanges that have not finished."""
        return self._accounts.active

    def in_force(self) -> Generation | None:
        """Return what serves a request whose head arrives now; ``None`` if this worker lacks it.

        The number in the shared segment decides, so that all workers switch at one instant.
        """
        number = self._segment.generation
        if number == self.generation.number:
            return self.generation
        return self._switch(number)

    def forget(self, is_used: Callable[[SlotName], bool]) -> None:
        """Give up the counts of what is no more."""
        if self._counters.forget(is_used):
            self._accounts.forget()

    def stay(self) -> None:
        """Serve by what was in force last, whatever comes in force later."""
        self._stays = True

    def _switch(self, number: int) -> Generation | None:
        if self._stays:
            return self.generation
        prepared = self.prepared
        if prepared is None or prepared.number != number:
            self._on_behind(number)
            return None
        superseded, self.generation, self.prepared = self.generation, prepared, None
        self._on_switched(superseded)
        return prepared

    def next_request_id(self) -> str:
        """Return an id that no other request of this machine has."""
        self._sequence += 1
        if self._sequence > SEQUENCE_MAX:
            self._begin_ids()
        return f"{self._id_prefix}{self._sequence:08x}"

    def _begin_ids(self) -> None:
        """Count from 1 again, under another second: unique across restarts, and sortable."""
        self._id_prefix = f"{self._slot:02x}{int(time.time()):08x}"
        self._sequence = self._sequence and 1

    def keep_decisions(self, size: int) -> None:
        """Keep so many bytes of what becomes of requests from now on."""
        self._decisions.resize(size)
        self.keeps_decisions = size > 0

    def finished(
        self, client: Client, stream: Stream, record: AccessRecord, reason: Reason
    ) -> None:
        """Account an exchange that ended."""
        now = self.runtime.now()
        self._accounts.ended(stream.protocol, record, reason, now)
        if self.keeps_decisions:
            record.keep(self._decisions, now, reason, stream.protocol)
        if self.access_log is not None:
            record.close(now, reason, client.address, client.port, stream.protocol, client.is_early)
            if self.access_log.write(record):
                self.runtime.mark(self.access_log)

    def count(self, metric: str, **labels: str) -> None:
        """Count something out of the ordinary."""
        self._counters.values[self._counters.slot(metric, labels)] += 1

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
