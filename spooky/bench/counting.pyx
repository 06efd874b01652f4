# cython: language_level=3
"""The client side of HTTP/3, reduced to what load needs: it sends requests, counts responses."""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

from spooky.bench.histogram cimport Histogram
from spooky.bench.plan import UNFINISHED
from spooky._core.sections import decode_fields, encode_fields
from spooky._core.h3_wire import encode_varint
from spooky.protocol.h3.limits import Limits

cdef enum:
    # RFC 9114 section 7.2.
    DATA = 0x00
    HEADERS = 0x01
    # A request's bytes are offered in pieces, so that what was refused is cheap to offer again.
    PIECE_SIZE = 65536
    # A field section begins with a prefix of two bytes, both 0 without a dynamic table, and then,
    # for a response, with ":status: 200" from the static table (RFC 9204 appendix A, entry 25).
    PREFIX_SIZE = 2
    STATUS_200 = 0xD9

# A control stream with empty SETTINGS: no QPACK table, nothing else (RFC 9114 section 6.2.1).
cdef bytes CONTROL_STREAM = b"\x00\x04\x00"

cdef object LIMITS = Limits()


cdef class Request:
    def __init__(self, fields, int64_t body_size=0):
        cdef bytes section = encode_fields(fields)
        cdef bytes wire = b"\x01" + encode_varint(len(section)) + section
        if body_size:
            wire += b"\x00" + encode_varint(body_size) + bytes(body_size)
        self.pieces = tuple(
            wire[start : start + PIECE_SIZE] for start in range(0, len(wire), PIECE_SIZE)
        )
        self.body_size = body_size


cdef class Tally:
    def __init__(self):
        self.latencies = Histogram()
        self.errors = {}

    def reset(self, double since=0.0):
        self.since = since
        self.latencies = Histogram()
        self.errors = {}
        self.requests = self.bytes_received = self.bytes_sent = 0

    cpdef count_error(self, str what, int64_t count=1):
        self.errors[what] = self.errors.get(what, 0) + count


cdef class Exchange:
    """One request and what came of its response so far."""


cdef class CountingClient:
    def __init__(
        self,
        session,
        tuple requests,
        Tally tally,
        *,
        int streams,
        bint closed_loop,
        bint slow=False,
    ):
        if not requests:
            raise ValueError("a client needs something to request")
        self.session = session
        self.tally = tally
        self.closed = None
        self._requests = requests
        self._streams = self._unused = streams
        self._closed_loop = closed_loop
        self._exchanges = {}
        self._waiting = deque()
        self._unread = {} if slow else None
        session.handler = self

    @property
    def in_flight(self):
        return len(self._exchanges)

    @property
    def unanswered(self):
        return len(self._exchanges) + len(self._waiting)

    def offer(self, double intended):
        if self.closed is not None:
            if intended >= self.tally.since:
                self.tally.count_error(why_closed(self.closed))
            return
        self._waiting.append(intended)
        if self.established:
            self._go_on()

    def give_up(self):
        cdef Tally tally = self.tally
        cdef double started
        for started in self._unanswered():
            if started >= tally.since:
                tally.latencies.add_value(<int64_t>((self.now - started) * 1e6), 1)
                tally.count_error(UNFINISHED)
        self._exchanges.clear()
        self._waiting.clear()
        self.stopping = True

    def read(self, Py_ssize_t count):
        cdef Py_ssize_t held, taken
        while count > 0 and self._unread:
            stream_id, held = next(iter(self._unread.items()))
            taken = min(held, count)
            if taken == held:
                del self._unread[stream_id]
            else:
                self._unread[stream_id] = held - taken
            count -= taken
            self.session.consume(stream_id, taken)

    # --- what the session delivers ----------------------------------------------------------------

    def on_handshake(self, handshake):
        cdef Py_ssize_t i
        self.established = True
        self.session.send(self.session.open_stream(True), CONTROL_STREAM, False)
        if self._closed_loop:
            for i in range(self._streams):
                self._waiting.append(self.now)
        self._go_on()

    def on_stream_data(self, int64_t stream_id, bytes data, bint fin):
        cdef Exchange exchange = self._exchanges.get(stream_id)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if size and self._unread is None:
            self.session.consume(stream_id, size)
        elif size:
            self._unread[stream_id] = self._unread.get(stream_id, 0) + size
        if exchange is None:
            return
        self._read(exchange, data)
        if fin:
            self._finish(exchange)

    def on_stream_reset(self, int64_t stream_id, error_code):
        cdef Exchange exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            self._lose(exchange, f"reset with {error_code:#x}")

    def on_stop_sending(self, int64_t stream_id, error_code):
        cdef Exchange exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            # The session resets our part; a response may follow all the same.
            exchange.piece = len(exchange.request.pieces)

    def on_stream_writable(self, int64_t stream_id):
        cdef Exchange exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            self._push(exchange)

    def on_streams_available(self):
        self._go_on()

    def on_early_data(self):
        pass

    def on_connection_id_issued(self, connection_id):
        pass

    def on_connection_id_retired(self, connection_id):
        pass

    def on_closed(self, close):
        self.closed = close
        if not self.stopping:
            # A connection that had nothing to do is an error, too: it was to be there.
            self.tally.count_error(why_closed(close), max(len(self._unanswered()), 1))
        self.stopping = True
        self._exchanges.clear()
        self._waiting.clear()

    # --- requests ---------------------------------------------------------------------------------

    cdef list _unanswered(self):
        """Return when those requests were due that have no answer, as far as they count."""
        cdef Exchange exchange
        cdef list due = [exchange.started for exchange in self._exchanges.values()]
        if not self._closed_loop:
            due += self._waiting
        return [started for started in due if started >= self.tally.since]

    cdef int _go_on(self) except -1:
        """Begin what waits, as far as the streams reach."""
        while self._waiting and self._unused and not self.stopping:
            if self._begin(self._waiting[0]) == 0:
                break
            self._waiting.popleft()
        return 0

    cdef int _begin(self, double started) except -1:
        """Begin a request; return 0 if the peer lets us open no stream now."""
        cdef object stream_id = self.session.open_stream(False)
        cdef Exchange exchange
        if stream_id is None:
            return 0
        exchange = Exchange.__new__(Exchange)
        exchange.stream_id = stream_id
        exchange.started = started
        exchange.request = self._requests[self._next]
        exchange.partial = b""
        self._next += 1
        if self._next == len(self._requests):
            self._next = 0
        self._exchanges[stream_id] = exchange
        self._unused -= 1
        self._push(exchange)
        return 1

    cdef int _push(self, Exchange exchange) except -1:
        """Send of a request what the session takes."""
        cdef tuple pieces = exchange.request.pieces
        cdef bytes piece
        cdef Py_ssize_t accepted
        while exchange.piece < len(pieces):
            piece = pieces[exchange.piece]
            if exchange.offset:
                piece = piece[exchange.offset :]
            accepted = self.session.send(
                exchange.stream_id, piece, exchange.piece == len(pieces) - 1
            )
            if accepted < PyBytes_GET_SIZE(piece):
                exchange.offset += accepted
                return 0
            exchange.offset = 0
            exchange.piece += 1
        return 0

    cdef int _finish(self, Exchange exchange) except -1:
        """Count a response that ended, and begin the next request."""
        cdef Tally tally = self.tally
        if exchange.status == 0 or exchange.remaining or exchange.partial:
            self._lose(exchange, "the response was cut short")
            return 0
        if not 200 <= exchange.status <= 299:
            self._lose(exchange, f"status {exchange.status}")
            return 0
        tally.requests += 1
        tally.bytes_sent += exchange.request.body_size
        if exchange.started >= tally.since:
            tally.latencies.add_value(<int64_t>((self.now - exchange.started) * 1e6), 1)
        self._release(exchange)
        return 0

    def _lose(self, Exchange exchange, str why):
        if exchange.started >= self.tally.since:
            self.tally.count_error(why)
        self._release(exchange)

    def _release(self, Exchange exchange):
        del self._exchanges[exchange.stream_id]
        self._unused += 1
        if self._closed_loop:
            self._waiting.append(self.now)
        self._go_on()

    # --- responses --------------------------------------------------------------------------------

    cdef int _read(self, Exchange exchange, bytes data) except -1:
        """Take the next bytes of a response."""
        cdef const unsigned char* start
        cdef Py_ssize_t position = 0, size, header, taken
        cdef int64_t kind, length
        if exchange.partial:
            data = exchange.partial + data
            exchange.partial = b""
        start = <const unsigned char*>PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
        while position < size:
            if exchange.remaining == 0:
                header = read_header(start + position, size - position, &kind, &length)
                if header == 0:
                    exchange.partial = data[position:]
                    return 0
                if kind == HEADERS and exchange.status == 0:
                    if size - position - header < length:
                        exchange.partial = data[position:]
                        return 0
                    position += header
                    exchange.status = status_of(data[position : position + length])
                    position += length
                    continue
                position += header
                exchange.frame = kind
                exchange.remaining = length
                continue
            taken = min(exchange.remaining, size - position)
            if exchange.frame == DATA:
                self.tally.bytes_received += taken
            exchange.remaining -= taken
            position += taken
        return 0


cdef str why_closed(close):
    if close.timed_out:
        return "the connection timed out"
    return f"the connection was closed with {close.error_code:#x}"


cdef int read_varint(const unsigned char* at, Py_ssize_t size, int64_t* value) noexcept:
    """Read an integer (RFC 9000 section 16); return its length, or 0 if it is not whole."""
    cdef int length, i
    if size == 0:
        return 0
    length = 1 << (at[0] >> 6)
    if size < length:
        return 0
    value[0] = at[0] & 0x3F
    for i in range(1, length):
        value[0] = (value[0] << 8) | at[i]
    return length


cdef int read_header(
    const unsigned char* at, Py_ssize_t size, int64_t* kind, int64_t* length
) noexcept:
    """Read a frame's type and length; return the bytes they take, or 0 if they are not whole."""
    cdef int first = read_varint(at, size, kind)
    cdef int second
    if first == 0:
        return 0
    second = read_varint(at + first, size - first, length)
    return first + second if second else 0


cdef int status_of(bytes section) except -1:
    """Return the status that a field section states; 0 for an informational one."""
    cdef int status
    if PyBytes_GET_SIZE(section) > PREFIX_SIZE and <unsigned char>section[PREFIX_SIZE] == STATUS_200:
        return 200
    fields = decode_fields(section, LIMITS.max_headers_count, LIMITS.max_decoded_bytes)
    if isinstance(fields, int):
        raise ValueError("the response's field section is too large")
    status = int(dict(fields)[b":status"])
    return status if status >= 200 else 0
