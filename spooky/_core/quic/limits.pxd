"""Sizes and counts that the engine holds to, each with its reason.

What a hostile peer may make it hold is in `protocol/quic/limits.py`, and given with the parameters.
"""

cdef enum:
    CONNECTION_ID_LENGTH = 8
    # The slot byte and 7 that nobody guesses; see protocol/quic/packet.py.

    CONNECTION_ID_MAX_LENGTH = 20
    # RFC 9000 section 17.2.

    RESET_TOKEN_LENGTH = 16
    # RFC 9000 section 10.3.

    MINIMUM_DATAGRAM_SIZE = 1200
    # What every path carries, and what an Initial's datagram fills (RFC 9000 section 14).

    ACTIVE_CONNECTION_IDS = 4
    # IDs each side may hold of the other: one in use, and one for each path tried at a time. What
    # is used is replaced, and more of them cost every connection memory and a token each. nginx
    # and Chromium use 2, quic-go 4.

    AMPLIFICATION_FACTOR = 3
    # RFC 9000 section 8.1.

    UNDECRYPTABLE_MAX = 8
    # Datagrams kept until the keys for them are there: a flight overtaken by its tail.

    DATAGRAM_MAX_SIZE = 65527
    # The largest UDP payload (RFC 9000 section 18.2).

    RUN_MAX_SIZE = 65487
    # A run and its headers share the length field of one IP packet.

    RUN_MAX_SEGMENTS = 64
    # What Linux takes for one sendmsg with UDP_SEGMENT.

    REASON_PHRASE_MAX = 256
    # Bytes of a reason phrase that are sent; it has to fit its packet.

    SMALLEST_DATAGRAM = 64
    # Room below which no packet with content is begun.

    ACK_DELAY_EXPONENT = 3

    MAX_ACK_DELAY_MS = 25
    # RFC 9000 section 18.2, the defaults: what aioquic, quic-go and nginx say too.

    LINGER_PROBE_TIMEOUTS = 3
    # How long what is over is remembered: closed connections (RFC 9000 section 10.2), old keys
    # (RFC 9001 section 6.5), unanswered challenges (RFC 9000 section 8.2.4).

    PATH_CHALLENGES = 3
    # How often an address is asked before it is given up (RFC 9000 section 8.2.4).

    PATH_DATA_LENGTH = 8
    # Of PATH_CHALLENGE and PATH_RESPONSE (RFC 9000 section 19.17).

    RETRY_TOKEN_MAX = 512
    # Bytes of a token that a client repeats in each Initial, beside a TLS hello; those of the servers
    # known have below 200.

    UNDECRYPTABLE_SIZE_MAX = 2048
    # Of such a datagram, bytes: no handshake sends larger ones, and half-open connections are
    # many.
