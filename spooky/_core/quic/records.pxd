"""What a sent packet's frame records mean: `FrameRecord.kind`."""

cdef enum:
    # The streams'.
    RECORD_STREAM = 1  # id: stream; offset, length, fin.
    RECORD_RESET_STREAM = 2  # id: stream.
    RECORD_STOP_SENDING = 3  # id: stream.
    RECORD_MAX_DATA = 4  # id: the limit announced.
    RECORD_MAX_STREAM_DATA = 5  # id: stream; offset: the limit announced.
    RECORD_MAX_STREAMS_BIDI = 6  # id: the limit announced.
    RECORD_MAX_STREAMS_UNI = 7
    RECORD_DATA_BLOCKED = 8  # id: the limit we are blocked at.
    RECORD_STREAM_DATA_BLOCKED = 9  # id: stream; offset: the limit.
    RECORD_STREAMS_BLOCKED_BIDI = 10  # id: the limit.
    RECORD_STREAMS_BLOCKED_UNI = 11
    RECORD_STREAMS_LAST = 31
    # The connection's.
    RECORD_ACK = 32  # id: the largest packet number acknowledged.
    RECORD_CRYPTO = 33  # id: the epoch; offset, length.
    RECORD_HANDSHAKE_DONE = 34
    RECORD_NEW_CONNECTION_ID = 35  # id: its sequence number.
    RECORD_RETIRE_CONNECTION_ID = 36  # id: its sequence number.
    RECORD_NEW_TOKEN = 37
    RECORD_MTU_PROBE = 38  # id: the size.
    RECORD_PATH_CHALLENGE = 39  # id: its data.
