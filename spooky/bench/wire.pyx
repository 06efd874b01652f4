# cython: language_level=3
"""Sockets and time for the load generator: a bare loop over epoll and one timer wheel."""

import select
import socket
from time import monotonic

from spooky._core.timers import TimerWheel
from spooky._core.udp import UdpSocket

cdef enum:
    # Datagrams read from a socket before the next has its turn.
    DATAGRAMS_PER_TURN = 256

    # Asked of the kernel for each socket, so that a burst of the proxy is not lost at its client.
    BUFFER_BYTES = 4 * 1024 * 1024

# Resolution of timers, that of ``epoll_wait``; and the longest wait for a datagram; seconds.
cdef double TICK = 0.001
cdef double IDLE_WAIT = 0.1

cdef int READABLE = select.EPOLLIN


cdef class Loop:
    cdef object _epoll
    cdef dict _wires
    cdef object _wheel

    def __init__(self):
        self._epoll = select.epoll()
        self._wires = {}
        self._wheel = TimerWheel(monotonic(), TICK)

    cpdef add(self, Wire wire):
        self._wires[wire.fileno] = wire
        self._epoll.register(wire.fileno, READABLE)

    cpdef remove(self, Wire wire):
        del self._wires[wire.fileno]
        self._epoll.unregister(wire.fileno)

    @staticmethod
    def now():
        return monotonic()

    def turn(self, double until):
        cdef double now = monotonic()
        cdef object due = self._wheel.next_deadline()
        cdef double wait = min(until, now + IDLE_WAIT if due is None else due) - now
        cdef Wire wire
        for fd, _ in self._epoll.poll(max(wait, 0.0)):
            wire = self._wires.get(fd)
            if wire is not None:
                wire.on_readable()
        now = monotonic()
        self._wheel.advance(now)
        return now

    def close(self):
        cdef Wire wire
        for wire in list(self._wires.values()):
            wire.close()
        self._epoll.close()


cdef class Wire:
    cdef readonly bytes first
    cdef readonly str error
    cdef readonly int fileno
    cdef Loop _loop
    cdef object _session
    cdef object _driver
    cdef object _after
    cdef object _socket
    cdef object _udp
    cdef object _timer

    def __init__(self, Loop loop, session, driver, address, after=None):
        cdef int family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        opened.connect(address)
        self._socket = opened
        self.fileno = opened.fileno()
        self._udp = UdpSocket(self.fileno, family)
        self._session = session
        self._driver = driver
        self._loop = loop
        self._after = after
        self.first = b""
        self.error = ""
        loop.add(self)

    cpdef on_readable(self):
        cdef list batch
        try:
            batch = self._udp.receive(DATAGRAMS_PER_TURN)
        except OSError as error:
            # Refused or unreachable: to QUIC, lost packets; its handshake or idle timer decides.
            self.error = error.strerror or str(error)
            return
        if not batch:
            return
        if not self.first:
            self.first = batch[0][0]
        now = monotonic()
        self._driver.now = now
        self._session.receive(batch, now)
        self.settle(now)

    cpdef settle(self, now):
        if self._after is not None:
            self._after(self)
        if self.fileno < 0:
            return
        for payload, segment_size, _, ecn in self._session.flush(now):
            try:
                # What the kernel has no room for is, to QUIC, lost packets.
                self._udp.send(payload, segment_size, None, ecn)
            except BlockingIOError:
                break
            except OSError as error:
                self.error = error.strerror or str(error)
                break
        deadline = self._session.deadline()
        timer = self._timer
        if deadline is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
        elif timer is None:
            self._timer = self._loop._wheel.schedule(deadline, self._on_timer)
        elif timer.deadline != deadline:
            timer.postpone(deadline)

    def close(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove(self)
        self._udp.release()
        self._socket.close()
        self.fileno = -1

    def _on_timer(self):
        self._timer = None
        now = monotonic()
        self._driver.now = now
        self._session.expire(now)
        self.settle(now)
