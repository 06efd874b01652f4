"""The seam between QUIC engines and those who use them: a sans-I/O session.

Datagrams go in as batches and come out as runs of equal-sized segments (the shape of UDP GSO).
Time is an argument. Received stream data is credited to the peer only by
:meth:`QuicSession.consume`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""A socket address, as the socket module gives it."""


class Datagram(NamedTuple):
    """A received UDP payload.

    Attributes:
        payload: Its bytes.
        source: Where it came from.
        ecn: The two ECN bits of its IP header; 0 when unknown.
    """

    payload: bytes
    source: Address
    ecn: int = 0


ReceivedDatagram: TypeAlias = tuple[bytes, Address, int]
"""A :class:`Datagram`, or a plain tuple of the same, as the socket gives it: taken by position."""


class Transmit(NamedTuple):
    """A run of datagrams for one destination.

    Attributes:
        payload: The datagrams, one after the other.
        segment_size: Length of each but the last, which may be shorter; bytes.
        destination: Where they go.
        ecn: The two ECN bits to send with.
    """

    payload: bytes
    segment_size: int
    destination: Address
    ecn: int = 0


class Handshake(NamedTuple):
    """What a completed handshake agreed on.

    Attributes:
        version: The QUIC version in use.
        alpn: The application protocol.
        server_name: The name the client asked for (SNI), lowercase, or ``None``.
        resumed: Whether a session ticket was accepted.
        client_certificate: The verified client certificate, DER, or ``None``.
        early_data: Whether 0-RTT data was accepted; ``None`` if none was offered.
    """

    version: int
    alpn: str
    server_name: str | None
    resumed: bool
    client_certificate: bytes | None
    early_data: bool | None = None


class Close(NamedTuple):
    """How a connection ended.

    Attributes:
        error_code: QUIC transport or application error code; 0 for an idle timeout.
        is_application: Whether ``error_code`` is the application's (RFC 9000 section 20.2).
        phrase: The reason phrase.
        by_peer: Whether the peer closed it.
        timed_out: Whether nobody did, and the idle timeout passed.
    """

    error_code: int
    is_application: bool
    phrase: str
    by_peer: bool
    timed_out: bool


class QuicHandler(Protocol):
    """What a session delivers to, inside ``receive`` and ``expire`` only."""

    def on_early_data(self) -> None:
        """Learn, as a server, that 0-RTT data is taken: streams may be used from now on.

        What is delivered before ``on_handshake`` may be a replay (RFC 8446 section 8).
        """

    def on_handshake(self, handshake: Handshake) -> None:
        """Learn that the handshake completed."""

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Take the next bytes of a stream, in order; ``data`` may be empty if ``fin``."""

    def on_stream_reset(self, stream_id: int, error_code: int) -> None:
        """Learn that the peer reset its sending part (RESET_STREAM)."""

    def on_stop_sending(self, stream_id: int, error_code: int) -> None:
        """Learn that the peer wants no more (STOP_SENDING); the session resets our part."""

    def on_stream_writable(self, stream_id: int) -> None:
        """Learn that a stream, once refused in part, accepts more."""

    def on_streams_available(self) -> None:
        """Learn that the peer lets us open more streams."""

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        """Route packets with this destination connection ID here from now on."""

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        """Stop routing packets with this destination connection ID here."""

    def on_closed(self, close: Close) -> None:
        """Learn that the connection ended; no upcall follows.

        Packets it still has to send come from ``flush``, deadlines until it may be forgotten
        (RFC 9000 section 10.2) from ``deadline``.
        """


class QuicSession(Protocol):
    """One QUIC connection, client or server.

    A stream that is over, unknown, or whose direction does not allow it: every call about it is
    ignored, and data for it counts as accepted.

    Attributes:
        handler: Where upcalls go; set before the first ``receive``.
        is_client: Which role it has.
        established: Whether the handshake completed.
        terminated: Whether it is over and may be forgotten: nothing to send, no deadline.
        draining: Whether the peer ended it: nothing is sent any more, and what comes until
            :meth:`deadline` is dropped. An engine may not say so, and be terminated in time.
        peer: The address packets are sent to; changes when the peer migrates.
        server_name: Of a server: the name its client asked for (SNI), once its hello was read.
        all_acknowledged: Whether the peer has everything that was sent on streams, ends and resets
            included; closing before that loses some of it.
        peer_stream_limit: How many bidirectional streams the peer was allowed to open so far.
        idle_timeout: After which silence the connection ends, as agreed on; seconds, 0 for never.
        acknowledged: How much of the streams' data the peer has acknowledged; bytes.
    """

    handler: QuicHandler
    is_client: bool
    established: bool
    terminated: bool
    draining: bool
    peer: Address

    @property
    def server_name(self) -> str | None: ...

    @property
    def all_acknowledged(self) -> bool: ...

    @property
    def peer_stream_limit(self) -> int: ...

    @property
    def idle_timeout(self) -> float: ...

    @property
    def acknowledged(self) -> int: ...

    def receive(self, batch: Sequence[ReceivedDatagram], now: float) -> None:
        """Take datagrams, in order, and make the upcalls they cause."""

    def open_stream(self, unidirectional: bool) -> int | None:
        """Return the ID of a new stream, or ``None`` while the peer's limit is reached."""

    def send(self, stream_id: int, data: bytes, fin: bool) -> int:
        """Send stream data.

        Returns:
            How many bytes were accepted; if not all, ``on_stream_writable`` tells when to offer
            the rest. ``fin`` counts only if all were accepted; if it was not, and there were no
            bytes, that is -1. An engine may accept the last of a stream only as far as the peer
            lets it send.
        """

    def consume(self, stream_id: int, count: int) -> None:
        """Credit ``count`` delivered bytes back to the peer."""

    def reset(self, stream_id: int, error_code: int) -> None:
        """Abandon our sending part (RESET_STREAM); what is unsent is dropped."""

    def stop_sending(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to abandon its sending part.

        What still arrives is dropped and credited, without upcalls; what was delivered before
        still waits for :meth:`consume`.
        """

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        """Say in which order a stream is sent (RFC 9218 section 10).

        Until this is called a stream has urgency 3 and is incremental. Engines that lack
        ``Feature.PRIORITIES`` have an order of their own, and ignore it.

        Args:
            stream_id: Which stream.
            urgency: From 0, the most urgent, to 7; -1 goes before all of these.
            incremental: Whether it takes turns with others of its urgency. If not, it goes before
                those that do, and after streams like it whose ID is lower.
        """

    def held(self) -> list[tuple[int, int]]:
        """Return the streams for which data is held, with how much; bytes.

        That is what the peer has not acknowledged, and what it sent ahead of its turn.
        """

    def unacknowledged(self, stream_id: int) -> int:
        """Return how much of a stream is held that the peer has not acknowledged; bytes."""

    def is_held_up(self, stream_id: int) -> bool:
        """Return whether a stream has something to send that its own window does not allow."""

    def ping(self) -> None:
        """Send a PING, to keep the connection or to probe it."""

    def probe_path(self) -> None:
        """Go on from another address of ours (RFC 9000 section 9); clients only.

        Uses a connection ID that the old path did not see, and makes the server validate the new.
        """

    def close(self, error_code: int, phrase: str, is_application: bool) -> None:
        """Close the connection.

        ``on_closed`` follows at the end of the ``receive`` or ``expire`` that is under way, else
        from the next ``receive``, ``expire`` or ``flush``.
        """

    def figures(self) -> tuple[int, int, int, float, int] | None:
        """Return what is counted of the transport; ``None`` where :meth:`statistics` is.

        Returns:
            Packets sent, received and lost; the smoothed round trip, seconds; the congestion
            window, bytes.
        """

    def take_dropped(self) -> tuple[int, ...] | None:
        """Return how many packets were dropped since the last call; ``None`` if none were.

        That is also what engines say that do not know, as aioquic.

        Returns:
            A number each of those that are malformed, name no ID of ours, are of a version that is
            not spoken, are forged, and have no keys.
        """

    def statistics(self) -> dict[str, Any] | None:
        """Return figures of the transport, for tests and tools.

        ``None`` by engines that lack ``Feature.STATISTICS``.
        """

    def deadline(self) -> float | None:
        """Return when ``expire`` must be called, or ``None``."""

    def expire(self, now: float) -> None:
        """Do what is due: loss detection, idle timeout, pacing."""

    def flush(self, now: float) -> list[Transmit]:
        """Return the datagrams to send now."""
