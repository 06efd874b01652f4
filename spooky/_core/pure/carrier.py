# cython: annotation_typing=False
"""The bytes of a TCP connection: from its socket to its session, and back once a turn.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What a connection is
for is left to ``runtime/byte_transport.py`` and its subclasses.
"""

from typing import Any, Final

from spooky._core import tcp
from spooky._core.timers import Timer
from spooky._core.turns import Turns

LOW_SHARE: Final = 4
"""A protocol that holds back goes on when a quarter of what was too much is left, as in asyncio."""

READS_PER_TURN: Final = 8
"""How often a socket is read in a turn of the loop while more comes: 2 MiB leave in larger batches
than 256 KiB do, and others wait for some milliseconds."""

CLOSE_SECONDS: Final = 30.0
"""How long what waits may take to leave at a close, as loops allow for TLS: for a peer that reads
nothing it would wait for ever."""

# C numbers.
_CLOSE_SECONDS = CLOSE_SECONDS
_LOW_SHARE = LOW_SHARE
_READS_PER_TURN = READS_PER_TURN


class Carrier:
    """Feeds a session what a transport delivers, and writes what it wants once a turn.

    Arguments:
        runtime: The worker's.

    Attributes:
        bytes_received: How many came.
    """

    def __init__(self, runtime: Turns) -> None:
        self.bytes_received = 0
        self._runtime = runtime
        self._transport: Any = None
        self._session: Any = None
        self._owner: Any = None
        self._marked = False
        self._reading = True

    def carry(self, transport: Any, session: Any, owner: Any) -> None:
        """Begin.

        Arguments:
            transport: As ``asyncio`` has them.
            session: See ``ByteSession`` in ``protocol/session.py``.
            owner: Its ``on_progress`` is called after each flush, and its ``end`` once the session
                has closed and what it had to say is written.
        """
        self._transport = transport
        self._session = session
        self._owner = owner
        self.wake()

    def let_go(self) -> None:
        """Learn that the transport is gone."""
        self._transport = self._session = self._owner = None

    def receive(self, data: bytes) -> None:
        """Take what the peer sent."""
        session = self._session
        if session is None:
            return
        self.bytes_received += len(data)
        session.receive(data, self._runtime.clock())
        # At once: the loop reads a ready socket many times in one turn.
        if session.want_read != self._reading:
            self._follow_want_read()
        self.wake()

    def wake(self) -> None:
        """Flush at the end of this turn."""
        if not self._marked:
            self._marked = True
            self._runtime.mark(self)

    def flush(self) -> None:
        """Write what the session has, then follow its wishes about reading and closing."""
        self._marked = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        session = self._session
        data = session.transmit()
        while data:
            transport.write(data)
            data = session.transmit()
        if session.closed:
            self._owner.end()
            return
        if session.want_read != self._reading:
            self._follow_want_read()
        self._owner.on_progress()

    def _follow_want_read(self) -> None:
        """Pause or resume reading as the session wishes."""
        if self._transport is None:
            return
        self._reading = self._session.want_read
        if self._reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class SocketTransport:
    """A connected TCP socket as ``asyncio`` has transports, read and written by us.

    A request that comes alone finds nothing in the processor's caches, so that it pays for code by
    the line: a loop's own streams are more of that than what is needed here, and are for TLS.

    Arguments:
        runtime: The worker's.
        connected: The socket, which does not block; it is closed in the end.
        carrier: What takes the bytes.
        protocol: What is told of the rest, as ``asyncio.Protocol`` is.
    """

    def __init__(self, runtime: Turns, connected: Any, carrier: Carrier, protocol: Any) -> None:
        self._runtime = runtime
        self._socket = connected
        self._descriptor: int = connected.fileno()
        self._carrier: Any = carrier
        self._protocol = protocol
        self._closing = False
        self._ended = False
        self._reading = False
        self._at_end = False
        # What the socket had no room for; of the first so much is sent.
        self._waiting: list[bytes] = []
        self._sent = 0
        self._size = 0
        self._high = 0
        self._held_back = False
        self._close_timer: Timer | None = None

    def start(self) -> None:
        """Tell the protocol, then read."""
        self._reading = True
        self._protocol.connection_made(self)
        if self._reading and not self._closing:
            self._runtime.loop.add_reader(self._descriptor, self._on_readable)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the ``socket``, or its ``peername``; of all else the default."""
        if name == "socket":
            return self._socket
        if name != "peername":
            return default
        try:
            return self._socket.getpeername()
        except OSError:
            return default

    def set_write_buffer_limits(self, high: int) -> None:
        """Have the protocol hold back while more than so many bytes wait."""
        self._high = high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for room in the socket."""
        return self._size

    def is_closing(self) -> bool:
        """Return whether it is closed, or will be once all is sent."""
        return self._closing

    def pause_reading(self) -> None:
        """Read no more, so that the peer has to stop."""
        if self._reading:
            self._reading = False
            if not self._closing:
                self._runtime.loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Read again."""
        if not (self._reading or self._closing or self._at_end):
            self._reading = True
            self._runtime.loop.add_reader(self._descriptor, self._on_readable)

    def write(self, data: bytes) -> None:
        """Send, or keep until there is room."""
        if self._ended:
            return
        if not self._waiting:
            try:
                sent = tcp.send(self._descriptor, data, 0)
            except OSError as error:
                self._end(error)
                return
            if sent == len(data):
                return
            self._sent = sent
            self._size -= sent
            self._runtime.loop.add_writer(self._descriptor, self._on_writable)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > self._high and not self._held_back:
            self._held_back = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Close, once what waits is sent, or could not be for long."""
        if self._closing:
            return
        self._stop_reading()
        self._closing = True
        if not self._waiting:
            self._end(None)
            return
        runtime = self._runtime
        self._close_timer = runtime.schedule(runtime.clock() + _CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Close at once; what waits is lost."""
        self._end(None)

    def _on_readable(self) -> None:
        runtime = self._runtime
        held = runtime.hold_if_few()
        try:
            # Until there is nothing: uvloop stops watching a socket that has an error, such as a
            # reset, which is not known before what came in front of it is read.
            for _ in range(_READS_PER_TURN):
                data = self._read()
                if data is None:
                    break
                self._take(data)
                if not self._reading:
                    break
            else:
                # What else there is is for the next turn, also where it is not watched any more.
                loop = runtime.loop
                loop.remove_reader(self._descriptor)
                loop.add_reader(self._descriptor, self._on_readable)
        finally:
            if held:
                runtime.flush()

    def _read(self) -> bytes | None:
        """Return what came: nothing at the end, ``None`` if there is nothing or it broke."""
        try:
            return tcp.receive(self._descriptor)
        except OSError as error:
            self._end(error)
            return None

    def _take(self, data: bytes) -> None:
        """Give the session what came, or learn that nothing more will."""
        try:
            if data:
                self._carrier.receive(data)
            elif self._protocol.eof_received():
                # Nothing more comes, which a socket says again and again.
                self._at_end = True
                self.pause_reading()
            else:
                self.close()
        except Exception as error:
            # Its own defect alone, which others on the loop have no part in.
            self._runtime.report(self._protocol)
            self._end(error)

    def _on_writable(self) -> None:
        try:
            while self._waiting:
                data = self._waiting[0]
                sent = tcp.send(self._descriptor, data, self._sent)
                self._size -= sent
                self._sent += sent
                if self._sent < len(data):
                    break
                self._waiting.pop(0)
                self._sent = 0
        except OSError as error:
            self._end(error)
            return
        if not self._waiting:
            self._runtime.loop.remove_writer(self._descriptor)
        if self._held_back and self._size <= self._high // _LOW_SHARE:
            self._held_back = False
            self._protocol.resume_writing()
        if self._closing and not self._waiting:
            self._end(None)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._runtime.loop.remove_reader(self._descriptor)

    def _end(self, error: Exception | None) -> None:
        """Do nothing more, and tell the protocol, which may be in a call of its own, in a while."""
        if self._ended:
            return
        self._ended = True
        self._stop_reading()
        self._closing = True
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        if self._waiting:
            self._runtime.loop.remove_writer(self._descriptor)
            self._waiting = []
            self._size = 0
        self._runtime.loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        protocol = self._protocol
        self._protocol = self._carrier = None
        try:
            protocol.connection_lost(error)
        finally:
            self._socket.close()
