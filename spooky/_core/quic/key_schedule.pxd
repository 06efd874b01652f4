"""C declarations of the key schedule."""

from spooky._core.quic.digests cimport State


cdef class KeySchedule:
    # A client may resume a session with another one of the same hash.
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
    cdef bint fits(self, int cipher_suite) noexcept  # Whether it has the same hash.
    cdef bytes expand(self, bytes secret, bytes label, bytes context)


# A message that stands for a hello in the transcript once another was asked for.
cdef bytes hello_digest(int cipher_suite, bytes hello)
