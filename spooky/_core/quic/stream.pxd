"""C declarations of a stream, and of the queue of those that have data to send."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from spooky._core.quic.receive_buffer cimport ReceiveBuffer
from spooky._core.quic.receive_window cimport ReceiveWindow
from spooky._core.quic.send_buffer cimport SendBuffer

cdef enum:
    # RFC 9218 section 4.1.
    DEFAULT_URGENCY = 3
    LOWEST_URGENCY = 7
    # Goes before all that RFC 9218 knows: what an application needs to control its connection.
    CONTROL_URGENCY = -1

cdef enum:
    # Bits of Stream.control: frames that are to be written.
    CONTROL_RESET_STREAM = 1
    CONTROL_STOP_SENDING = 2
    CONTROL_MAX_STREAM_DATA = 4
    CONTROL_STREAM_DATA_BLOCKED = 8

cdef enum:
    # Above every offset and limit (RFC 9000 section 16).
    NO_LIMIT = 0x4000000000000000


cdef enum:
    # Stream.queue: the queue it is in.
    QUEUE_NONE = 0
    QUEUE_REPEATS = 1  # What the connection's flow control does not hold: lost data, ends.
    QUEUE_FRESH = 2  # New data.


cdef class Stream:
    cdef uint64_t id
    cdef object key  # The same for Python.
    cdef uint8_t control
    cdef bint in_control_list
    cdef bint in_ready_list
    cdef bint in_refused_list
    cdef bint over  # In both directions.

    # --- receiving (RFC 9000 section 3.2)
    cdef bint receive_over  # The application knows its end, or does not want to.
    cdef bint size_known
    cdef bint stopped  # What comes is dropped.
    cdef bint reset_by_peer
    cdef uint64_t highest  # The end of what was received, gaps included.
    cdef uint64_t received  # Without a gap.
    cdef uint64_t delivered
    cdef uint64_t final_size
    cdef uint64_t peer_reset_code
    cdef ReceiveWindow window
    cdef ReceiveBuffer waiting  # None while nothing came ahead of its turn.
    cdef object gathered  # To be delivered: None, bytes or a list of them.

    # --- sending (RFC 9000 section 3.1)
    cdef bint send_over  # The peer has all of it, or our reset.
    cdef bint reset_by_us
    cdef bint refused  # Waits to be told that it is writable.
    cdef bint end_refused  # Because its end is beyond what the peer lets us send.
    cdef bint rest_refused  # And with it, bytes before it.
    cdef bint stop_told  # The application knows that the peer wants no more.
    cdef bint stop_pending  # It is about to be told.
    cdef int urgency
    cdef bint incremental
    cdef uint64_t limit  # The highest offset the peer lets us send up to.
    cdef uint64_t blocked_at  # The limit that the peer was told we are blocked at.
    cdef uint64_t reset_code
    cdef uint64_t reset_size
    cdef uint64_t peer_stop_code
    cdef uint64_t stop_code
    cdef SendBuffer output  # None before the first byte and after the last is acknowledged.
    cdef uint8_t queue
    cdef Py_ssize_t place  # In the queue.
    cdef int rank
    cdef uint64_t turn

    cdef bint is_writing(self) noexcept  # More may be given to it to send.
    cdef void prioritize(self, int urgency, bint incremental) noexcept


cdef class SendQueue:
    cdef readonly Py_ssize_t count
    cdef uint8_t _name
    cdef PyObject** _heap
    cdef Py_ssize_t _capacity
    cdef uint64_t _turns

    cdef Stream first(self)
    cdef int add(self, Stream stream) except -1
    cdef int remove(self, Stream stream) except -1
    cdef int pass_turn(self, Stream stream) except -1
    cdef void _take_turn(self, Stream stream) noexcept
    cdef void _put(self, PyObject* item, Py_ssize_t place) noexcept
    cdef void _rise(self, PyObject* item, Py_ssize_t place) noexcept
    cdef void _sink(self, PyObject* item, Py_ssize_t place) noexcept
