"""C declarations of transport parameters."""

from libc.stdint cimport uint32_t, uint64_t


cdef class TransportParameters:
    cdef public bytes original_destination_connection_id
    cdef public uint64_t max_idle_timeout
    cdef public bytes stateless_reset_token
    cdef public uint64_t max_udp_payload_size
    cdef public uint64_t initial_max_data
    cdef public uint64_t initial_max_stream_data_bidi_local
    cdef public uint64_t initial_max_stream_data_bidi_remote
    cdef public uint64_t initial_max_stream_data_uni
    cdef public uint64_t initial_max_streams_bidi
    cdef public uint64_t initial_max_streams_uni
    cdef public uint64_t ack_delay_exponent
    cdef public uint64_t max_ack_delay
    cdef public bint disable_active_migration
    cdef public uint64_t active_connection_id_limit
    cdef public bytes initial_source_connection_id
    cdef public bytes retry_source_connection_id
    cdef public uint32_t chosen_version
    cdef public tuple available_versions

    cdef bytes encode_shared(self)


cpdef TransportParameters decode(bytes encoded, bint from_client)
cdef bytes encode_ids(bytes original, bytes initial_source, bytes retry_source, bytes reset_token)
