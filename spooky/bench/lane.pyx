# cython: language_level=3
"""One connection of those that a load consists of."""

# The HTTP/3 control stream with empty SETTINGS (RFC 9114 section 6.2.1).
cdef bytes CONTROL_STREAM = b"\x00\x04\x00"


cdef class Lane:
    cdef readonly object session
    cdef readonly double begun
    cdef public double now
    cdef readonly object handshake
    cdef readonly double established_at
    cdef readonly object close
    cdef object _connecting
    cdef bint _over

    def __init__(self, connecting, session, double now):
        self.session = session
        self.begun = self.now = now
        self._connecting = connecting
        session.handler = self

    def after(self, wire):
        if not self._over and (self.close is not None or self._is_done()):
            self._over = True
            self._connecting.done(self, wire, self.now)

    cdef bint _is_done(self) except -1:
        if self.handshake is None or not self.session.all_acknowledged:
            return False
        return not self._connecting.resume or self._connecting.has_ticket

    def on_handshake(self, handshake):
        """Take the time, and send something that the server has to acknowledge."""
        self.handshake = handshake
        self.established_at = self.now
        stream_id = self.session.open_stream(True)
        if stream_id is not None:
            self.session.send(stream_id, CONTROL_STREAM, False)

    def on_closed(self, close):
        """Remember how the connection ended."""
        self.close = close

    def on_early_data(self):
        """Ignore it: servers are told this."""

    def on_stream_data(self, stream_id, data, fin):
        """Ignore the server's control stream."""

    def on_stream_reset(self, stream_id, error_code):
        """Ignore it."""

    def on_stop_sending(self, stream_id, error_code):
        """Ignore it."""

    def on_stream_writable(self, stream_id):
        """Ignore it: three bytes fit any window."""

    def on_streams_available(self):
        """Ignore it: one stream is enough."""

    def on_connection_id_issued(self, connection_id):
        """Ignore it: the socket has one connection."""

    def on_connection_id_retired(self, connection_id):
        """Ignore it: the socket has one connection."""
