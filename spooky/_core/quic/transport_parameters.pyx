# cython: language_level=3
"""Transport parameters (RFC 9000 section 18, RFC 9368 section 3)."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from spooky._core.quic.limits cimport (
    CONNECTION_ID_MAX_LENGTH,
    DATAGRAM_MAX_SIZE,
    MINIMUM_DATAGRAM_SIZE,
    RESET_TOKEN_LENGTH,
)
from spooky._core.quic.wire cimport (
    Reader,
    read_bytes,
    read_uint32,
    read_varint,
    write_data,
    write_uint32,
    write_varint,
)

from spooky._core.quic.errors import QuicError, TransportError

cdef enum:
    ORIGINAL_DESTINATION_CONNECTION_ID = 0x00
    MAX_IDLE_TIMEOUT = 0x01
    STATELESS_RESET_TOKEN = 0x02
    MAX_UDP_PAYLOAD_SIZE = 0x03
    INITIAL_MAX_DATA = 0x04
    INITIAL_MAX_STREAM_DATA_BIDI_LOCAL = 0x05
    INITIAL_MAX_STREAM_DATA_BIDI_REMOTE = 0x06
    INITIAL_MAX_STREAM_DATA_UNI = 0x07
    INITIAL_MAX_STREAMS_BIDI = 0x08
    INITIAL_MAX_STREAMS_UNI = 0x09
    ACK_DELAY_EXPONENT = 0x0A
    MAX_ACK_DELAY = 0x0B
    DISABLE_ACTIVE_MIGRATION = 0x0C
    PREFERRED_ADDRESS = 0x0D
    ACTIVE_CONNECTION_ID_LIMIT = 0x0E
    INITIAL_SOURCE_CONNECTION_ID = 0x0F
    RETRY_SOURCE_CONNECTION_ID = 0x10
    VERSION_INFORMATION = 0x11

cdef enum:
    PARAMETERS_MAX = 64
    # Parameters read, unknown ones too; there are some 20 in the registry.

    ENCODED_MAX = 512
    # All that we say, with IDs of 20 bytes and ten versions, is half of this.

    VERSIONS_MAX = 10
    # Versions that are said.

cdef uint64_t STREAMS_MAX = 1ULL << 60
# RFC 9000 section 4.6.

# What a server may say and a client may not (RFC 9000 section 18.2).
cdef set SERVER_ONLY = {
    ORIGINAL_DESTINATION_CONNECTION_ID,
    STATELESS_RESET_TOKEN,
    PREFERRED_ADDRESS,
    RETRY_SOURCE_CONNECTION_ID,
}


cdef class TransportParameters:
    """What one endpoint tells the other about itself; the defaults are those of the RFC.

    Attributes:
        original_destination_connection_id: Of the client's first packet; ``None`` if absent, as
            the other connection IDs.
        max_idle_timeout: Milliseconds; 0 for none.
        stateless_reset_token: Of the connection ID the handshake used.
        max_udp_payload_size: The largest datagram taken, bytes.
        ack_delay_exponent: What ACK frames divide delays by, as a power of two.
        max_ack_delay: Milliseconds.
        chosen_version: The version in use; 0 without version information.
        available_versions: Preferred first; of a client those compatible with its first packet.
    """

    def __cinit__(self):
        self.max_udp_payload_size = 65527
        self.ack_delay_exponent = 3
        self.max_ack_delay = 25
        self.active_connection_id_limit = 2
        self.available_versions = ()

    def encode(self):
        """Return the parameters as the TLS extension carries them."""
        return self.encode_shared() + encode_ids(
            self.original_destination_connection_id,
            self.initial_source_connection_id,
            self.retry_source_connection_id,
            self.stateless_reset_token,
        )

    cdef bytes encode_shared(self):
        """Return those that are the same for all connections of an endpoint with a version."""
        cdef uint8_t[ENCODED_MAX] block
        cdef uint8_t* out = block
        cdef uint32_t version
        out = _put(out, MAX_IDLE_TIMEOUT, self.max_idle_timeout)
        out = _put(out, MAX_UDP_PAYLOAD_SIZE, self.max_udp_payload_size)
        out = _put(out, INITIAL_MAX_DATA, self.initial_max_data)
        out = _put(out, INITIAL_MAX_STREAM_DATA_BIDI_LOCAL, self.initial_max_stream_data_bidi_local)
        out = _put(
            out, INITIAL_MAX_STREAM_DATA_BIDI_REMOTE, self.initial_max_stream_data_bidi_remote
        )
        out = _put(out, INITIAL_MAX_STREAM_DATA_UNI, self.initial_max_stream_data_uni)
        out = _put(out, INITIAL_MAX_STREAMS_BIDI, self.initial_max_streams_bidi)
        out = _put(out, INITIAL_MAX_STREAMS_UNI, self.initial_max_streams_uni)
        out = _put(out, ACK_DELAY_EXPONENT, self.ack_delay_exponent)
        out = _put(out, MAX_ACK_DELAY, self.max_ack_delay)
        out = _put(out, ACTIVE_CONNECTION_ID_LIMIT, self.active_connection_id_limit)
        if self.chosen_version:
            out = write_varint(out, VERSION_INFORMATION)
            out = write_varint(out, 4 + 4 * len(self.available_versions[:VERSIONS_MAX]))
            out = write_uint32(out, self.chosen_version)
            for version in self.available_versions[:VERSIONS_MAX]:
                out = write_uint32(out, version)
        return PyBytes_FromStringAndSize(<char*>block, out - block)


cdef bytes encode_ids(bytes original, bytes initial_source, bytes retry_source, bytes reset_token):
    """Return those that are a connection's own; ``None`` for what is absent."""
    cdef uint8_t[ENCODED_MAX] block
    cdef uint8_t* out = block
    out = _put_id(out, ORIGINAL_DESTINATION_CONNECTION_ID, original)
    out = _put_id(out, INITIAL_SOURCE_CONNECTION_ID, initial_source)
    out = _put_id(out, RETRY_SOURCE_CONNECTION_ID, retry_source)
    out = _put_id(out, STATELESS_RESET_TOKEN, reset_token)
    return PyBytes_FromStringAndSize(<char*>block, out - block)


cpdef TransportParameters decode(bytes encoded, bint from_client):
    """Read transport parameters.

    Arguments:
        encoded: As the TLS extension carries them.
        from_client: Whether a client said them.

    Raises:
        QuicError: They are malformed, or say what may not be said.
    """
    cdef TransportParameters found = TransportParameters()
    cdef Reader reader
    cdef uint64_t number, size
    cdef const uint8_t* value
    cdef set seen = set()
    reader.data = <const uint8_t*>PyBytes_AS_STRING(encoded)
    reader.position, reader.end, reader.failed = 0, len(encoded), False
    while reader.position < reader.end:
        number = read_varint(&reader)
        size = read_varint(&reader)
        value = read_bytes(&reader, size)
        if reader.failed:
            raise _error("are cut off")
        if number in seen or len(seen) >= PARAMETERS_MAX:
            raise _error(f"repeat parameter {number}, or are too many")
        seen.add(number)
        if from_client and number in SERVER_ONLY:
            raise _error(f"have parameter {number}, which is for servers")
        _take(found, number, value, size)
    if found.initial_source_connection_id is None:
        raise _error("lack initial_source_connection_id")
    if PREFERRED_ADDRESS in seen and not found.initial_source_connection_id:
        raise _error("have a preferred_address of one that uses no connection IDs")
    return found


cdef int _take(
    TransportParameters found, uint64_t number, const uint8_t* value, uint64_t size
) except -1:
    """Note one parameter; those we do not know are ignored (section 7.4.2)."""
    if number == ORIGINAL_DESTINATION_CONNECTION_ID:
        found.original_destination_connection_id = _connection_id(value, size)
    elif number == INITIAL_SOURCE_CONNECTION_ID:
        found.initial_source_connection_id = _connection_id(value, size)
    elif number == RETRY_SOURCE_CONNECTION_ID:
        found.retry_source_connection_id = _connection_id(value, size)
    elif number == STATELESS_RESET_TOKEN:
        if size != RESET_TOKEN_LENGTH:
            raise _error("have a stateless_reset_token of another length than 16")
        found.stateless_reset_token = value[:size]
    elif number == VERSION_INFORMATION:
        _take_versions(found, value, size)
    elif number == PREFERRED_ADDRESS:
        # Two addresses with ports, an ID with its length, a token (section 18.2). Not followed.
        if size < 41 or value[24] == 0 or value[24] > CONNECTION_ID_MAX_LENGTH or (
            size != 41 + <uint64_t>value[24]
        ):
            raise _error("have a malformed preferred_address")
    elif number == DISABLE_ACTIVE_MIGRATION:
        if size:
            raise _error("give disable_active_migration a value")
        found.disable_active_migration = True
    elif number <= ACTIVE_CONNECTION_ID_LIMIT:
        _take_number(found, number, value, size)
    return 0


cdef int _take_number(
    TransportParameters found, uint64_t number, const uint8_t* encoded, uint64_t size
) except -1:
    cdef Reader reader
    cdef uint64_t value
    reader.data, reader.position, reader.end, reader.failed = encoded, 0, size, False
    value = read_varint(&reader)
    if reader.failed or reader.position != reader.end:
        raise _error(f"have a malformed integer as parameter {number}")
    if number == MAX_IDLE_TIMEOUT:
        found.max_idle_timeout = value
    elif number == MAX_UDP_PAYLOAD_SIZE:
        if value < MINIMUM_DATAGRAM_SIZE:
            raise _error("have a max_udp_payload_size below 1200")
        # More than a datagram can have is no limit (RFC 9000 section 18.2).
        found.max_udp_payload_size = min(value, <uint64_t>DATAGRAM_MAX_SIZE)
    elif number == INITIAL_MAX_DATA:
        found.initial_max_data = value
    elif number == INITIAL_MAX_STREAM_DATA_BIDI_LOCAL:
        found.initial_max_stream_data_bidi_local = value
    elif number == INITIAL_MAX_STREAM_DATA_BIDI_REMOTE:
        found.initial_max_stream_data_bidi_remote = value
    elif number == INITIAL_MAX_STREAM_DATA_UNI:
        found.initial_max_stream_data_uni = value
    elif number == INITIAL_MAX_STREAMS_BIDI or number == INITIAL_MAX_STREAMS_UNI:
        if value > STREAMS_MAX:
            raise _error("allow more than 2^60 streams")
        if number == INITIAL_MAX_STREAMS_BIDI:
            found.initial_max_streams_bidi = value
        else:
            found.initial_max_streams_uni = value
    elif number == ACK_DELAY_EXPONENT:
        if value > 20:
            raise _error("have an ack_delay_exponent above 20")
        found.ack_delay_exponent = value
    elif number == MAX_ACK_DELAY:
        if value >= 1 << 14:
            raise _error("have a max_ack_delay of 2^14 or more")
        found.max_ack_delay = value
    elif number == ACTIVE_CONNECTION_ID_LIMIT:
        if value < 2:
            raise _error("have an active_connection_id_limit below 2")
        found.active_connection_id_limit = value
    return 0


cdef int _take_versions(
    TransportParameters found, const uint8_t* value, uint64_t size
) except -1:
    cdef uint64_t at
    if size < 4 or size % 4:
        raise _error("have malformed version_information")
    # Wherever it stands, a 0 makes all of it malformed (RFC 9368 section 4).
    for at in range(0, size, 4):
        if read_uint32(value + at) == 0:
            raise _error("have version 0 in version_information")
    found.chosen_version = read_uint32(value)
    found.available_versions = tuple([
        read_uint32(value + at) for at in range(4, size, 4)
    ])
    return 0


cdef bytes _connection_id(const uint8_t* value, uint64_t size):
    if size > CONNECTION_ID_MAX_LENGTH:
        raise _error("have a connection ID of more than 20 bytes")
    return value[:size]


cdef uint8_t* _put(uint8_t* out, uint64_t number, uint64_t value) noexcept:
    cdef uint8_t* length_at
    length_at = write_varint(out, number)
    out = write_varint(length_at + 1, value)
    length_at[0] = out - length_at - 1
    return out


cdef uint8_t* _put_id(uint8_t* out, uint64_t number, bytes value):
    """Write a parameter of at most 20 bytes, unless it is None."""
    if value is None:
        return out
    out = write_varint(out, number)
    out[0] = len(value)
    return write_data(out + 1, <const uint8_t*>PyBytes_AS_STRING(value), len(value))


cdef object _error(str what):
    return QuicError(
        TransportError.TRANSPORT_PARAMETER_ERROR, 0, f"transport parameters {what}"
    )
