cdef class Limits:
    cdef public Py_ssize_t max_headers_count
    cdef public Py_ssize_t max_headers_bytes
    cdef public bint enforce_authority_host_match
    cdef public frozenset allowed_methods
    cdef public tuple denied_path_prefixes
    cdef public int underscores


cdef class Request:
    cdef public bytes method
    cdef public bytes scheme
    cdef public bytes authority
    cdef public bytes host
    cdef public int port
    cdef public bytes path
    cdef public bytes query
    cdef public list fields
    cdef public long long content_length
    cdef public int version
    cdef public int dropped


cdef class Response:
    cdef public int status
    cdef public list fields
    cdef public long long content_length
