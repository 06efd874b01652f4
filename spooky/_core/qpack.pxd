cpdef int scan(bytes block, Py_ssize_t max_count, Py_ssize_t max_bytes) except -1

cdef Py_ssize_t line_size(const unsigned char* start, const unsigned char* end) noexcept nogil
