# cython: language_level=3
"""Connection IDs: those we issue, and those the peer lets us use (RFC 9000 section 5.1)."""

import hmac

cimport cython
from libc.stdint cimport uint64_t

from spooky._core.quic.frames cimport FRAME_NEW_CONNECTION_ID, FRAME_RETIRE_CONNECTION_ID
from spooky._core.quic.limits cimport ACTIVE_CONNECTION_IDS
from spooky._core.quic.ranges cimport RangeSet

from spooky._core.quic.errors import QuicError, TransportError


@cython.final
@cython.freelist(64)
cdef class IssuedId:
    """A connection ID with the number it was issued under."""

    @staticmethod
    cdef IssuedId make(uint64_t sequence, bytes connection_id, bytes reset_token):
        cdef IssuedId entry = IssuedId.__new__(IssuedId)
        entry.sequence = sequence
        entry.connection_id = connection_id
        entry.reset_token = reset_token
        return entry


@cython.final
cdef class LocalIds:
    """The connection IDs by which the peer may address us.

    Attributes:
        active: Those it has not retired.
    """

    def __init__(self):
        self.active = []
        # The handshake tells the first.
        self._announced = 1

    cdef IssuedId issue(self, bytes connection_id, bytes reset_token):
        cdef IssuedId entry = IssuedId.make(self._next_sequence, connection_id, reset_token)
        self._next_sequence += 1
        self.active.append(entry)
        return entry

    cdef void on_announced(self, uint64_t sequence) noexcept:
        """Note that the peer is told of one."""
        self._announced = max(self._announced, sequence + 1)

    cdef bint holds(self, bytes connection_id) noexcept:
        cdef IssuedId entry
        for entry in self.active:
            if entry.connection_id == connection_id:
                return True
        return False

    cdef IssuedId find(self, uint64_t sequence):
        cdef IssuedId entry
        for entry in self.active:
            if entry.sequence == sequence:
                return entry
        return None

    cdef IssuedId retire(self, uint64_t sequence, bytes used):
        cdef IssuedId entry
        if sequence >= self._announced:
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION,
                FRAME_RETIRE_CONNECTION_ID,
                "retires a connection ID that was never announced",
            )
        entry = self.find(sequence)
        if entry is None:
            return None
        if entry.connection_id == used:
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION,
                FRAME_RETIRE_CONNECTION_ID,
                "retires the connection ID of its own packet",
            )
        self.active.remove(entry)
        return entry


@cython.final
cdef class PeerIds:
    """The connection IDs by which we may address the peer.

    Arguments:
        connection_id: The first one.
        retirements_max: How many retirements may wait for their acknowledgment, and how many
            numbers may be left out.

    Attributes:
        current: What packets on the current path carry.
        spare: What was not used yet.
        retiring: Retirements to be sent.
    """

    def __init__(self, bytes connection_id, Py_ssize_t retirements_max):
        self.current = IssuedId.make(0, connection_id, None)
        self._retirements_max = retirements_max
        self.spare = []
        self.retiring = []
        self._unacknowledged = []
        self._seen = RangeSet()
        self._seen.add(0, 1)

    cdef int replace_first(self, bytes connection_id) except -1:
        """Use what the peer chose itself instead of what a client made up for it."""
        self.current = IssuedId.make(0, connection_id, None)
        return 0

    cdef int set_first_token(self, bytes reset_token) except -1:
        """Learn the stateless reset token of the first one."""
        if self.current.sequence == 0:
            self.current.reset_token = reset_token
        return 0

    cdef int add(
        self, uint64_t sequence, uint64_t retire_prior_to, bytes connection_id, bytes reset_token
    ) except -1:
        """Take a NEW_CONNECTION_ID frame (RFC 9000 section 19.15)."""
        cdef IssuedId entry, other
        if not self.current.connection_id:
            raise _violation("issues connection IDs to one that uses none")
        if retire_prior_to > self._retire_prior_to:
            self._retire_prior_to = retire_prior_to
            self._seen.remove_below(retire_prior_to)
            for other in [each for each in self.spare if each.sequence < retire_prior_to]:
                self.spare.remove(other)
                self._retire(other)
            for other in [*(self.elsewhere or ())]:
                if other.sequence < retire_prior_to:
                    self.give_back(other)
        entry = IssuedId.make(sequence, connection_id, reset_token)
        if sequence < self._retire_prior_to:
            # Retired before it came; said once more if the frame is repeated.
            if self.current.sequence != sequence:
                self._retire(entry)
        elif not self._seen.contains(sequence):
            for other in [*self.spare, *(self.elsewhere or ()), self.current]:
                if other.connection_id == connection_id:
                    raise _violation("issues a connection ID twice")
            self._seen.add(sequence, sequence + 1)
            if self._seen.count > self._retirements_max:
                raise _violation("leaves numbers of connection IDs out")
            self.spare.append(entry)
        else:
            for other in [*self.spare, *(self.elsewhere or ()), self.current]:
                if other.sequence == sequence and (
                    other.connection_id != connection_id
                    or (other.reset_token is not None and other.reset_token != reset_token)
                ):
                    raise _violation("issues two connection IDs under one number")
        if self.current.sequence < self._retire_prior_to and not self.use_next():
            raise _violation("retires all connection IDs")
        if len(self.spare) + len(self.elsewhere or ()) >= ACTIVE_CONNECTION_IDS:
            raise QuicError(
                TransportError.CONNECTION_ID_LIMIT_ERROR,
                FRAME_NEW_CONNECTION_ID,
                "more connection IDs than allowed",
            )
        return 0

    cdef bint use_next(self) except -1:
        """Go on with another one, and retire the one in use."""
        if not self.spare:
            return False
        self._retire(self.current)
        self.current = self.spare.pop(0)
        return True

    cdef bint uses(self, IssuedId entry) noexcept:
        """Whether packets of some path carry it, still."""
        return entry is self.current or (self.elsewhere is not None and entry in self.elsewhere)

    cdef IssuedId take(self):
        """Return one that nothing was sent under, for a path besides the current one."""
        cdef IssuedId entry
        if not self.spare:
            return None
        entry = self.spare.pop(0)
        if self.elsewhere is None:
            self.elsewhere = []
        self.elsewhere.append(entry)
        return entry

    cdef int switch_to(self, IssuedId entry) except -1:
        """Go on with that of another path, which becomes the current one."""
        if entry is not self.current:
            self.elsewhere.remove(entry)
            self.elsewhere.append(self.current)
            self.current = entry
        return 0

    cdef int give_back(self, IssuedId entry) except -1:
        """Retire what no path uses any more."""
        if self.elsewhere is not None and entry in self.elsewhere:
            self.elsewhere.remove(entry)
            self._retire(entry)
        return 0

    cdef int _retire(self, IssuedId entry) except -1:
        if entry.sequence in self._unacknowledged:
            return 0
        if len(self._unacknowledged) >= self._retirements_max:
            raise QuicError(
                TransportError.CONNECTION_ID_LIMIT_ERROR,
                FRAME_NEW_CONNECTION_ID,
                "retires connection IDs without taking note of it",
            )
        self._unacknowledged.append(entry.sequence)
        self.retiring.append(entry.sequence)
        return 0

    cdef int retire_again(self, uint64_t sequence) except -1:
        """Repeat a retirement that was lost."""
        if sequence in self._unacknowledged and sequence not in self.retiring:
            self.retiring.append(sequence)
        return 0

    cdef int on_retirement_acked(self, uint64_t sequence) except -1:
        if sequence in self._unacknowledged:
            self._unacknowledged.remove(sequence)
        return 0

    cdef bint is_reset_token(self, bytes token):
        """Whether the peer said that this would mean a stateless reset (section 10.3.1)."""
        cdef IssuedId entry
        for entry in [self.current, *(self.elsewhere or ())]:
            if entry.reset_token is not None and hmac.compare_digest(entry.reset_token, token):
                return True
        return False


cdef object _violation(str phrase):
    return QuicError(TransportError.PROTOCOL_VIOLATION, FRAME_NEW_CONNECTION_ID, phrase)
