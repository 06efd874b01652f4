cpdef int scan(bytes block, Py_ssize_t max_count, Py_ssize_t max_bytes) except -1
