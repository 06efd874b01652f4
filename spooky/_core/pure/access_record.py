# cython: annotation_typing=False
"""What the access log says of one exchange, filled in as it happens.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`; how it looks in a line
is said in ``observe/access_log.py``.
"""

from spooky._core import reasons
from spooky._core.decisions import Admitted, Notes, Ring
from spooky._core.reasons import Reason
from spooky._core.validate import Request

_NOT_YET = -1.0


class AccessRecord:
    """What is known of one exchange.

    Arguments:
        request_id: What no other request of this machine has.
        started: When its head came; seconds.

    Attributes:
        method: Request method, empty before the head.
        authority: Likewise; of an invalid head what can be had.
        path: Without its query, likewise.
        upstream: Name of the upstream, empty before one is chosen.
        backend: Name of the backend, likewise.
        upstream_protocol: What the backend's connection speaks, likewise.
        bytes_received: Request body bytes from the client.
        bytes_sent: Response body bytes to the client.
        detail: What the system said about a failure.
        connected: When a backend's connection took the request; seconds, negative before.
        first_byte: When the response head came, likewise.
        status: The response's status; 0 before there is one.
        tries: How often it was sent to a backend, or was to be.
        hedged: Whether two backends had it at a time.
        ended: When the exchange ended; seconds.
        reason: Why.
        address: The client's IP address, empty before the end.
        port: Its port, likewise.
        protocol: What the client's connection speaks, likewise.
        early: Whether its head came in 0-RTT data, likewise.
        generation: The number of the generation that serves it; 0 before one does.
        admitted: The stages that let it in, with their numbers.
        notes: What was out of the ordinary, if anything was.
    """

    def __init__(self, request_id: str, started: float) -> None:
        self.request_id = request_id
        self.started = started
        self.method = b""
        self.authority = b""
        self.path = b""
        self.upstream = ""
        self.backend = ""
        self.upstream_protocol = ""
        self.bytes_received = 0
        self.bytes_sent = 0
        self.detail = ""
        self.connected = _NOT_YET
        self.first_byte = _NOT_YET
        self.status = 0
        self.tries = 0
        self.hedged = False
        self.ended = started
        self.reason: Reason = reasons.COMPLETED
        self.address = b""
        self.port = 0
        self.protocol = ""
        self.early = False
        self.generation = 0
        self.admitted: Admitted | None = None
        self.notes: Notes | None = None

    def take_request(self, request: Request) -> None:
        """Take what the log says of a valid request; the query stays out of the log."""
        self.method = request.method
        self.authority = request.authority
        self.path = request.path

    def take_raw_head(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Take what can be had of an invalid head."""
        for name, value in fields:
            if name == b":method":
                self.method = value
            elif name == b":path":
                self.path = value.partition(b"?")[0]
            elif name in (b":authority", b"host"):
                self.authority = value

    def upstream_connected(self, now: float, protocol: str) -> None:
        """Note when a backend was connected, and what it speaks."""
        self.connected = now
        self.upstream_protocol = protocol

    def response_head(self, now: float, status: int) -> None:
        """Note when the response began."""
        self.first_byte = now
        self.status = status

    def close(
        self,
        now: float,
        reason: Reason,
        address: bytes,
        port: int,
        protocol: str,
        early: bool = False,
    ) -> None:
        """Note the end, and whose request it was."""
        self.early = early
        self.ended = now
        self.reason = reason
        self.address = address
        self.port = port
        self.protocol = protocol

    def note(
        self,
        kind: int,
        at: float,
        reason: Reason,
        name: str,
        first: float = 0.0,
        second: float = 0.0,
    ) -> None:
        """Note what is out of the ordinary; see ``Notes.add`` and ``observe/decisions.py``."""
        if self.notes is None:
            self.notes = Notes()
        self.notes.add(kind, at, reason.index, name, first, second)

    def keep(self, ring: Ring, now: float, reason: Reason, protocol: str) -> None:
        """Leave what became of it in a ring of decisions, as it ends."""
        ring.write(
            self.request_id, self.generation, self.started, self.connected, self.first_byte, now,
            reason.index, self.status, self.bytes_received, self.bytes_sent, protocol,
            self.upstream_protocol, self.upstream, self.backend, self.method, self.authority,
            self.path, self.admitted, self.notes,
        )  # fmt: skip
