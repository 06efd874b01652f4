"""Frame types (RFC 9000 section 19), and in which packets each may come (section 12.4)."""

from libc.stdint cimport uint64_t

cdef enum:
    FRAME_PADDING = 0x00
    FRAME_PING = 0x01
    FRAME_ACK = 0x02
    FRAME_ACK_ECN = 0x03
    FRAME_RESET_STREAM = 0x04
    FRAME_STOP_SENDING = 0x05
    FRAME_CRYPTO = 0x06
    FRAME_NEW_TOKEN = 0x07
    FRAME_STREAM = 0x08
    FRAME_STREAM_LAST = 0x0F
    FRAME_MAX_DATA = 0x10
    FRAME_MAX_STREAM_DATA = 0x11
    FRAME_MAX_STREAMS_BIDI = 0x12
    FRAME_MAX_STREAMS_UNI = 0x13
    FRAME_DATA_BLOCKED = 0x14
    FRAME_STREAM_DATA_BLOCKED = 0x15
    FRAME_STREAMS_BLOCKED_BIDI = 0x16
    FRAME_STREAMS_BLOCKED_UNI = 0x17
    FRAME_NEW_CONNECTION_ID = 0x18
    FRAME_RETIRE_CONNECTION_ID = 0x19
    FRAME_PATH_CHALLENGE = 0x1A
    FRAME_PATH_RESPONSE = 0x1B
    FRAME_CONNECTION_CLOSE = 0x1C
    FRAME_APPLICATION_CLOSE = 0x1D
    FRAME_HANDSHAKE_DONE = 0x1E
    FRAME_LAST = 0x1E
    FRAME_DATAGRAM = 0x30
    FRAME_DATAGRAM_LAST = 0x31

# Flags in the type of a STREAM frame (RFC 9000 section 19.8).
cdef enum:
    STREAM_FIN = 0x01
    STREAM_LEN = 0x02
    STREAM_OFF = 0x04

cdef enum:
    # As bits, the frame types that Initial and Handshake packets may carry.
    HANDSHAKE_FRAMES = (
        1 << FRAME_PADDING | 1 << FRAME_PING | 1 << FRAME_ACK | 1 << FRAME_ACK_ECN
        | 1 << FRAME_CRYPTO | 1 << FRAME_CONNECTION_CLOSE
    )
    ALL_FRAMES = 0x7FFFFFFF
    # All but those that answer what a client cannot have received yet, and the handshake's.
    EARLY_FRAMES = ALL_FRAMES & ~(
        1 << FRAME_ACK | 1 << FRAME_ACK_ECN | 1 << FRAME_CRYPTO | 1 << FRAME_NEW_TOKEN
        | 1 << FRAME_RETIRE_CONNECTION_ID | 1 << FRAME_PATH_RESPONSE | 1 << FRAME_HANDSHAKE_DONE
    )
    # Those that do not ask for an acknowledgment (RFC 9002 section 2).
    NOT_ACK_ELICITING_FRAMES = (
        1 << FRAME_PADDING | 1 << FRAME_ACK | 1 << FRAME_ACK_ECN
        | 1 << FRAME_CONNECTION_CLOSE | 1 << FRAME_APPLICATION_CLOSE
    )
    # Those that alone do not move the connection to the path they came on (section 9.1).
    PROBING_FRAMES = (
        1 << FRAME_PADDING | 1 << FRAME_NEW_CONNECTION_ID
        | 1 << FRAME_PATH_CHALLENGE | 1 << FRAME_PATH_RESPONSE
    )


cdef inline bint is_in(uint64_t frame_type, uint64_t frames) noexcept nogil:
    return (<uint64_t>1 << frame_type) & frames != 0
