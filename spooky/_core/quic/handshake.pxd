"""C declarations of a TLS handshake."""

from spooky._core.quic.key_schedule cimport KeySchedule

# Encryption levels, as the engine numbers them.
cdef enum:
    INITIAL = 0
    HANDSHAKE = 1
    APPLICATION = 2


cdef class NativeTls:
    cdef public str alpn
    cdef public object server_name
    cdef public bint resumed
    cdef public object early_data
    cdef public bytes client_certificate
    cdef readonly object _events
    cdef object _secrets_log
    cdef bint _is_client
    cdef public bytes _client_random
    cdef public int _level
    # The beginning of a message; None if nothing waits.
    cdef bytearray _incoming
    # What is to be said at each level.
    cdef bytes _initial
    cdef bytes _handshake
    cdef bytes _application

    cpdef receive(self, int epoch, bytes data)
    cpdef bytes take_output(self, int epoch)
    cpdef _send(self, int epoch, bytes messages)
    cpdef _tell_secret(self, bint sending, int epoch, int cipher_suite, bytes secret)
    cpdef bytes _tell_peer_parameters(self, bytes encoded)
    cdef bytes waiting(self, bytes data)


cdef class ServerHandshake(NativeTls):
    cdef public KeySchedule _schedule
    cdef public int _expect
    cdef bytes _server_secret
    cdef bytes _client_secret
    cdef bytes _client_application_secret

    cpdef _send_hello(self, int group, bytes own_share, bytes shared)
    cpdef _send_flight(self, bytes parameters, bytes certificates, int scheme, object sign)
    cpdef _on_hello(self, bytes message)
    cpdef _on_finished(self, bytes message)
    cpdef _complete(self)
    cdef bytes encrypted_extensions(self, bytes parameters)


cdef bytes make_finished(KeySchedule schedule, bytes secret)
cdef int take_finished(KeySchedule schedule, bytes secret, bytes message) except -1
cdef object violation(str phrase)
