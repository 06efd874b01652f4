# cython: annotation_typing=False
"""A client's HTTP/3 connection and its UDP socket, as far as every turn of the loop passes them.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. How a connection begins
and ends is in ``upstream/http3.py``, whose class extends the one here.
"""

import errno
from abc import abstractmethod
from typing import Any, Final

from spooky._core import hand_off
from spooky._core.timers import Timer
from spooky._core.turns import Turns

DATAGRAMS_PER_TURN: Final = 64
"""Datagrams read in one turn of the loop."""

LOSSES: Final = (errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM)
"""What the kernel says of a datagram that, to QUIC, is lost; the server may be there."""


class Link(hand_off.Connection):
    """Joins a QUIC session, its HTTP/3 session and a UDP socket.

    Arguments:
        runtime: The clockwork of the running loop.
        udp: The connected socket, see :class:`spooky._core.udp.UdpSocket`.
        quic: The QUIC session, see ``protocol/quic/session.py``.

    Attributes:
        runtime: The clockwork of the running loop.
        quic: The QUIC session.
        http3: The HTTP/3 session.
        datagrams_received: How many came.
        ended: Whether the connection is over.
    """

    def __init__(self, runtime: Turns, udp: Any, quic: Any) -> None:
        hand_off.Connection.__init__(self)
        self.runtime = runtime
        self.quic = quic
        self.http3: Any = None
        self.datagrams_received = 0
        self.ended = False
        # How many had come when the server's host said that nobody listens there.
        self._received_at_doubt = 0
        self._udp = udp
        self._timer: Timer | None = None
        self._marked = False
        self._has_socket = True

    @abstractmethod
    def close(self) -> None:
        """Let go of the socket."""

    @abstractmethod
    def watch(self) -> None:
        """Have the socket read when something comes, also if that stopped at an error."""

    @abstractmethod
    def on_unreachable(self, error: OSError) -> None:
        """Learn that the server's host says that nobody listens there."""

    @abstractmethod
    def on_broken(self) -> None:
        """End what could not take what came; the exception is being handled."""

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if not self._marked:
            self._marked = True
            self.runtime.mark(self)

    def flush(self) -> None:
        """Send what is pending, set the timer for what comes next, and tell the pool of room."""
        if not self._has_socket:
            self._marked = False
            return
        quic = self.quic
        http3 = self.http3
        # Whatever breaks: without a timer nothing would ever end it, and it would keep its socket.
        try:
            try:
                if http3.held_back and self.datagrams_received != self._received_at_doubt:
                    http3.held_back = False
                    self._forget_doubt()
                if http3.drained:
                    self._finish()
            finally:
                # Not before: what these say leaves in this flush.
                self._marked = False
            http3.settle()
            for run in quic.flush(self.runtime.clock()):
                self._send(run)
        finally:
            if quic.terminated:
                self.close()
            else:
                self._timer = self.runtime.follow(self._timer, quic.deadline(), self)
        if quic.established and not self.ended and self.pool is not None:
            self.on_progress()

    def _forget_doubt(self) -> None:
        """Learn that the server lives, of which there was doubt."""

    def _finish(self) -> None:
        """End if nothing will follow: the last request ended."""

    def _on_readable(self) -> None:
        batch: list[Any] = []
        try:
            batch = self._udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            # After which uvloop tells of nothing that comes any more.
            self.watch()
            self.on_unreachable(error)
            return
        if len(batch) > 0:
            self.datagrams_received += len(batch)
            try:
                self.quic.receive(batch, self.runtime.clock())
            except Exception:
                self.on_broken()
            finally:
                self.wake()

    def _send(self, run: Any) -> None:
        payload, segment_size, _, ecn = run
        try:
            # What the kernel has no room for is, to QUIC, lost packets.
            self._udp.send(payload, segment_size, None, ecn)
        except OSError as error:
            # The loop may have met the error first.
            self.watch()
            if error.errno not in LOSSES:
                self.on_unreachable(error)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __call__(self) -> None:
        """Do what is due: the timer's callback."""
        self._timer = None
        try:
            self.quic.expire(self.runtime.clock())
        except Exception:
            self.on_broken()
        finally:
            self.wake()
