"""C declarations of what a client's hello says."""

cdef class ClientHello:
    cdef readonly bytes random
    cdef readonly bytes session_id
    cdef readonly tuple cipher_suites
    cdef readonly bytes compression_methods
    cdef readonly str server_name
    cdef readonly list protocols
    cdef readonly tuple versions
    cdef readonly tuple signature_schemes
    cdef readonly tuple supported_groups
    cdef readonly list key_shares
    cdef readonly bytes psk_modes
    cdef readonly list identities
    cdef readonly list binders
    cdef readonly Py_ssize_t binders_at
    cdef readonly bint early_data
    cdef readonly bytes transport_parameters


cpdef ClientHello parse_client_hello(bytes message)
