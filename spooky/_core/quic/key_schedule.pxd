"""C declarations of the key schedule."""

from spooky._core.quic.digests cimport State


cdef class KeySchedule:
    cdef readonly int cipher_suite
    cdef readonly int hash_length
    cdef str hash_name
    cdef bytes secret
    # What was hashed so far: by libcrypto, or without it by hashlib.
    cdef State state
    cdef object hasher

    cpdef update(self, bytes messages)
    cpdef bytes transcript(self)
    cpdef bytes derive(self, bytes label)
    cpdef advance(self, bytes material=*)
    cpdef bytes verify_data(self, bytes base_key)
    cdef bytes expand(self, bytes secret, bytes label, bytes context)
