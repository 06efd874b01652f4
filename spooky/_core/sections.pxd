cpdef bytes encode_fields(object fields)
cpdef object decode_fields(bytes block, Py_ssize_t max_count, Py_ssize_t max_bytes)
