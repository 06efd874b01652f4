# cython: language_level=3
"""A latency histogram in constant memory: log-linear buckets, as HdrHistogram has them."""

from libc.string cimport memset


cdef int64_t highest_of(int bucket) noexcept:
    """Return the highest value of a bucket."""
    cdef int shift = 0 if bucket < 2 * STEPS else bucket // STEPS - 1
    return ((<int64_t>(bucket - STEPS * shift) + 1) << shift) - 1


cdef class Histogram:
    def __cinit__(self):
        memset(self._counts, 0, sizeof(self._counts))

    cpdef record(self, int64_t value):
        self.add_value(value, 1)

    def add(self, Histogram other not None):
        cdef int bucket
        for bucket in range(BUCKETS):
            self._counts[bucket] += other._counts[bucket]
        self.count += other.count
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def percentile(self, double share):
        cdef int bucket
        cdef int64_t seen = 0
        cdef int64_t wanted = max(<int64_t>(share * self.count + 0.999999), 1)
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share is between 0 and 1, not {share}")
        for bucket in range(BUCKETS):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(highest_of(bucket), self.maximum)
        return 0

    @property
    def mean(self):
        return self.total / self.count if self.count else 0.0

    def buckets(self):
        cdef int bucket
        return [
            (min(highest_of(bucket), self.maximum), self._counts[bucket])
            for bucket in range(BUCKETS)
            if self._counts[bucket]
        ]

    @staticmethod
    def of_buckets(buckets):
        cdef Histogram histogram = Histogram()
        for value, count in buckets:
            histogram.add_value(value, count)
        return histogram
