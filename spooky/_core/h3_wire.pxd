from libc.stdint cimport uint64_t

cpdef bytes encode_varint(uint64_t value)
cpdef bytes encode_frame(uint64_t kind, bytes payload)
