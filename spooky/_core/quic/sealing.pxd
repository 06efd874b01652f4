"""C declarations of what seals tokens and tickets."""

from libc.stdint cimport uint8_t

cdef enum:
    KEY_LENGTH = 32


cdef class Sealer:
    cdef uint8_t[KEY_LENGTH] key
    cdef object cipher  # Of the package; None where libcrypto does the work.
