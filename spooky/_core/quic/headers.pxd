"""Packet headers of versions 1 and 2 (RFC 9000 section 17, RFC 9369 section 3.2)."""

cdef enum:
    LONG_HEADER = 0x80
    FIXED_BIT = 0x40
    KEY_PHASE_BIT = 0x04
    NUMBER_LENGTH_BITS = 0x03
    LONG_RESERVED_BITS = 0x0C
    SHORT_RESERVED_BITS = 0x18
    # What header protection covers (RFC 9001 section 5.4.1).
    LONG_PROTECTED_BITS = 0x0F
    SHORT_PROTECTED_BITS = 0x1F

    # The two type bits of version 1; version 2 adds one, and wraps.
    INITIAL_TYPE = 0
    ZERO_RTT_TYPE = 1
    HANDSHAKE_TYPE = 2
    RETRY_TYPE = 3

    NUMBER_MAX_LENGTH = 4
    # The sample for header protection begins this far behind where a number begins.
