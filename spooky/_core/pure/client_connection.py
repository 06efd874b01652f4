# cython: annotation_typing=False
"""A client's QUIC connection from its first packet to its end: its timers, and what is counted.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What it serves is left
to ``edge/quic_connection.py``, whose class extends the one here.
"""

from abc import abstractmethod
from typing import Any, Final

from spooky._core.dispatch import Connection, Listener
from spooky._core.reasons import HANDSHAKE_TIMEOUT, Reason
from spooky._core.shared import Histogram
from spooky._core.terms import Client
from spooky._core.timers import Timer

CLIENT_INITIAL_ID_SECONDS: Final = 3.0
"""How long packets with the ID a client first chose are taken after the handshake; they may be
late by some round trips (RFC 9000 section 7.2)."""

KEEP_ALIVES_PER_IDLE_TIMEOUT: Final = 3
"""How often in an idle timeout a connection with requests in flight is kept alive: one PING may be
lost, and the next still comes in time (RFC 9000 section 10.1.2)."""

BYTES: Final = 1e-6
"""Seconds that stand for a byte in a histogram of bytes."""

# C numbers, where those above are objects.
_CLIENT_INITIAL_ID_SECONDS = CLIENT_INITIAL_ID_SECONDS
_KEEP_ALIVES_PER_IDLE_TIMEOUT = KEEP_ALIVES_PER_IDLE_TIMEOUT
_BYTES = BYTES


class Measures:
    """Counts round trips, congestion windows, packets and handshakes.

    Arguments:
        values: The worker's numbers.
        handshake: How long handshakes take.
        agreed: Which number counts them.
        round_trip: How long a round trip is.
        window: How large congestion windows are.
        packets: Which numbers count the packets sent, received and lost.
        dropped: Which count those dropped, by why, as the session tells them.
    """

    def __init__(
        self,
        values: Any,
        handshake: Histogram,
        agreed: int,
        round_trip: Histogram,
        window: Histogram,
        packets: tuple[int, int, int],
        dropped: tuple[int, ...],
    ) -> None:
        self._values = values
        self._handshake = handshake
        self._agreed = agreed
        self._round_trip = round_trip
        self._window = window
        self._sent, self._received, self._lost = packets
        self._dropped = dropped

    def established(self, seconds: float) -> None:
        """Count a handshake that took so long; QUIC carries one protocol alone."""
        self._handshake.observe(seconds)
        self._values[self._agreed] += 1

    def count(self, sent: int, received: int, lost: int, smoothed_rtt: float, window: int) -> None:
        """Take the figures of a connection.

        Arguments:
            sent: Packets since the last call for it, as the two that follow.
            received: Packets.
            lost: Packets.
            smoothed_rtt: Seconds.
            window: Bytes.
        """
        self._round_trip.observe(smoothed_rtt)
        self._window.observe(window * _BYTES)
        self._values[self._sent] += sent
        self._values[self._received] += received
        self._values[self._lost] += lost

    def count_dropped(self, counts: tuple[int, ...]) -> None:
        """Count packets of a connection that were dropped, by why."""
        values = self._values
        for slot, count in zip(self._dropped, counts, strict=True):
            values[slot] += count


class ClientConnection(Connection):
    """A connection of a client.

    Arguments:
        listener: The listener it came through.
        quic: The QUIC session, see ``protocol/quic/session.py``.
        client_initial_id: The destination connection ID the client chose for its first packets.
        handshake_timeout: For the handshake; seconds.
        idle_timeout: What is configured; seconds.
    """

    def __init__(
        self,
        listener: Listener,
        quic: Any,
        client_initial_id: bytes,
        handshake_timeout: float,
        idle_timeout: float,
    ) -> None:
        Connection.__init__(self, listener, quic)
        self._client_initial_id = client_initial_id
        self._handshake_timeout = handshake_timeout
        self._idle_timeout = idle_timeout
        self._counted_sent = self._counted_received = self._counted_lost = 0
        self._handshake_timer: Timer | None = None
        self._keep_alive_timer: Timer | None = None
        # Made for the first request.
        self._client: Client | None = None

    def start(self) -> None:
        """Take packets with the ID the client chose, and limit the handshake's time."""
        self.on_connection_id_issued(self._client_initial_id)
        deadline = self._began + self._handshake_timeout
        self._handshake_timer = self._runtime.schedule(deadline, self._on_handshake_timer)

    def forget(self) -> None:
        """Let go of everything; nothing more is sent or received."""
        if self._forgotten:
            return
        self._forgotten = True
        if self._late_until > 0.0:
            self._listener.outlive(self._connection_ids, self._late_until)
        else:
            for connection_id in self._connection_ids:
                self._listener.unroute(connection_id)
        self._connection_ids.clear()
        self._cancel_timer()
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        self._measure()
        # It has us as its owner: without this only the collector would free both.
        self._http3 = None
        self._listener.forget(self, self.established)

    # --- what is left to the edge -------------------------------------------------------------

    @abstractmethod
    def terminate(self, reason: Reason) -> None:
        """Close now; streams still open end with ``reason``."""

    @abstractmethod
    def _make_client(self) -> Client:
        """Return what requests know of the client."""

    @abstractmethod
    def _end_after_request(self) -> None:
        """Have the client bring its next requests over another connection."""

    # --- requests -----------------------------------------------------------------------------

    def _on_stream(self, stream: Any) -> Any:
        """Return what takes a request."""
        listener: Any = self._listener
        if self._client is None:
            self._client = self._make_client()
        if listener.overload.stops_keep_alive:
            # Later: a session is not told anything within its own upcall.
            self._runtime.loop.call_soon(self._end_after_request)
        service = listener.service
        return service.accept(stream, self._client)

    # --- the handshake ------------------------------------------------------------------------

    def _establish(self) -> None:
        """Note that the handshake is complete."""
        now = self._runtime.clock()
        self.established = True
        self._listener.cap.established()
        measures = self._listener.measures
        measures.established(now - self._began)
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        self._handshake_timer = self._runtime.schedule(
            now + _CLIENT_INITIAL_ID_SECONDS, self._on_handshake_timer
        )
        self._schedule_keep_alive(now)

    def _on_handshake_timer(self) -> None:
        """Close what never became a connection; else stop taking the client's first ID."""
        self._handshake_timer = None
        if self.established:
            self.on_connection_id_retired(self._client_initial_id)
        else:
            self.terminate(HANDSHAKE_TIMEOUT)

    # --- the time between ---------------------------------------------------------------------

    def _schedule_keep_alive(self, now: float) -> None:
        self._keep_alive_timer = self._runtime.schedule(
            now + self._idle_timeout / _KEEP_ALIVES_PER_IDLE_TIMEOUT, self._on_keep_alive_timer
        )

    def _on_keep_alive_timer(self) -> None:
        """Keep a connection whose requests are silent: a client may wait for a rare event."""
        if self._http3.active_streams:
            self._quic.ping()
            self.wake()
        self._measure()
        self._schedule_keep_alive(self._runtime.clock())

    def _measure(self) -> None:
        """Count what the transport knows of its path; now and then, and at the end."""
        measures = self._listener.measures
        dropped = self._quic.take_dropped()
        if dropped is not None:
            measures.count_dropped(dropped)
        if not self.established:
            return
        figures = self._quic.figures()
        if figures is None:
            return
        sent, received, lost, smoothed_rtt, window = figures
        measures.count(
            sent - self._counted_sent,
            received - self._counted_received,
            lost - self._counted_lost,
            smoothed_rtt,
            window,
        )
        self._counted_sent, self._counted_received, self._counted_lost = sent, received, lost
