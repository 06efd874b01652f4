"""Where requests come together: the generation in force, the accounts, the access log."""

import time

from spooky._core.reasons import Reason
from spooky.generation.generation import Generation
from spooky.observe.access_log import AccessLog, AccessRecord
from spooky.observe.counters import Counters
from spooky.protocol.stream import Stream, StreamHandler
from spooky.request.client import Client
from spooky.request.exchange import Exchange
from spooky.runtime import Runtime


class RequestService:
    """What the exchanges of one worker share.

    Arguments:
        runtime: The worker's.
        generation: What is in force at first.
        counters: The worker's slots.
        access_log: Where each exchange leaves a line, if anywhere.
        slot: The worker's number; part of request ids.

    Attributes:
        generation: What the next request is served by.
        held_bytes: Request body bytes held by all exchanges together.
        active: Exchanges that have not finished.
    """

    def __init__(
        self,
        runtime: Runtime,
        generation: Generation,
        counters: Counters,
        access_log: AccessLog | None,
        slot: int,
    ) -> None:
        self.runtime = runtime
        self.generation = generation
        self.access_log = access_log
        self.held_bytes = 0
        self.active = 0
        self._values = counters.values
        self._by_reason = counters.reason_slots("requests_total")
        self._request_bytes = counters.slot("request_body_bytes_total")
        self._response_bytes = counters.slot("response_body_bytes_total")
        # Seconds at start and a sequence number: unique across restarts, and sortable.
        self._id_prefix = f"{slot:02x}{int(time.time()):08x}"
        self._sequence = 0

    def accept(self, stream: Stream, client: Client) -> StreamHandler:
        """Return the exchange for a new client stream."""
        self.active += 1
        return Exchange(self, stream, client)

    def next_request_id(self) -> str:
        """Return an id that no other request of this machine has."""
        self._sequence += 1
        return f"{self._id_prefix}{self._sequence:08x}"

    def finished(
        self, client: Client, stream: Stream, record: AccessRecord, reason: Reason
    ) -> None:
        """Account an exchange that ended."""
        self.active -= 1
        values = self._values
        values[self._by_reason[reason.index]] += 1
        values[self._request_bytes] += record.bytes_received
        values[self._response_bytes] += record.bytes_sent
        if self.access_log is not None:
            record.close(self.runtime.now(), reason, client.address, client.port, stream.protocol)
            if self.access_log.write(record):
                self.runtime.mark(self.access_log)
