"""C declarations of the latency histogram."""

from libc.stdint cimport int64_t

cdef enum:
    # Values below twice this are exact, larger ones to 1/256 (0.4 %).
    STEPS = 256
    # 2**36 microseconds are 19 hours.
    VALUE_BITS = 36
    BUCKETS = STEPS * (VALUE_BITS - 9) + 2 * STEPS


cdef class Histogram:
    cdef int64_t _counts[BUCKETS]
    cdef readonly int64_t count
    cdef readonly int64_t total
    cdef readonly int64_t maximum

    cpdef record(self, int64_t value)
    cdef inline void add_value(self, int64_t value, int64_t times) noexcept:
        cdef int64_t clamped = min(max(value, 0), (<int64_t>1 << VALUE_BITS) - 1)
        self._counts[bucket_of(clamped)] += times
        self.count += times
        self.total += clamped * times
        if clamped > self.maximum:
            self.maximum = clamped


cdef inline int bucket_of(int64_t value) noexcept:
    """Return the bucket of a value that is in range."""
    cdef int shift = 0
    while (value >> shift) >= 2 * STEPS:
        shift += 1
    return STEPS * shift + <int>(value >> shift)
