"""The client side of HTTP/3, reduced to what load needs: it sends requests, counts responses."""

from collections.abc import Iterable

from spooky.bench.histogram import Histogram
from spooky.protocol.quic.session import Close, Handshake, QuicSession

class Request:
    """A request, encoded once.

    Arguments:
        fields: Its head, pseudo-headers first.
        body_size: Of a body of zeros; 0 for none; bytes.
    """

    pieces: tuple[bytes, ...]
    body_size: int
    def __init__(self, fields: Iterable[tuple[bytes, bytes]], body_size: int = 0) -> None: ...

class Tally:
    """What came of the requests of all clients together.

    Attributes:
        latencies: Of complete responses with a status of 2xx, in microseconds since the request
            was due; and of what :meth:`CountingClient.give_up` gave up.
        requests: How many responses that were.
        bytes_received: Of response bodies, as they came.
        bytes_sent: Of request bodies, counted when the response is complete.
        errors: How many requests failed, by what was wrong.
        since: Latencies and errors are those of requests that were due then or later.
    """

    latencies: Histogram
    requests: int
    bytes_received: int
    bytes_sent: int
    errors: dict[str, int]
    since: float
    def reset(self, since: float = 0.0) -> None:
        """Begin to count anew."""

    def count_error(self, what: str, count: int = 1) -> None:
        """Count what is no response at all."""

class CountingClient:
    """Drives one QUIC session: a handler of the seam, and what begins requests.

    Closed loop: every stream begins a request as soon as its last one ended. Open loop: requests
    begin when :meth:`offer` says that one is due; while no stream is free they wait, and their
    latency counts from when they were due. What is in flight or waits as the connection ends, or is
    offered later, is an error each. A slow client consumes nothing until :meth:`read`.

    Arguments:
        session: A client session that nobody else handles.
        requests: What to request, in turn.
        tally: Where to count.
        streams: Requests in flight at once.
        closed_loop: Whether responses cause requests.
        slow: Whether what arrives waits to be read.

    Attributes:
        now: The time, to be set before each call of the session.
        established: Whether the handshake completed.
        closed: How the connection ended, once it did.
        stopping: Whether no more requests begin; may be set.
        in_flight: Requests under way.
        unanswered: Requests under way, and those that wait.

    Raises:
        ValueError: There is nothing to request.
    """

    session: QuicSession
    tally: Tally
    closed: Close | None
    now: float
    established: bool
    stopping: bool
    def __init__(
        self,
        session: QuicSession,
        requests: tuple[Request, ...],
        tally: Tally,
        *,
        streams: int,
        closed_loop: bool,
        slow: bool = False,
    ) -> None: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def unanswered(self) -> int: ...
    def offer(self, intended: float) -> None:
        """Make a request that is due at a time; ``now`` must be set."""

    def give_up(self) -> None:
        """Count what is unanswered as unfinished, with the latency that it has by ``now``."""

    def read(self, count: int) -> None:
        """Let a slow client read so many bytes of what has arrived; ``now`` must be set."""

    def on_early_data(self) -> None: ...
    def on_handshake(self, handshake: Handshake) -> None: ...
    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None: ...
    def on_stream_reset(self, stream_id: int, error_code: int) -> None: ...
    def on_stop_sending(self, stream_id: int, error_code: int) -> None: ...
    def on_stream_writable(self, stream_id: int) -> None: ...
    def on_streams_available(self) -> None: ...
    def on_connection_id_issued(self, connection_id: bytes) -> None: ...
    def on_connection_id_retired(self, connection_id: bytes) -> None: ...
    def on_closed(self, close: Close) -> None: ...
