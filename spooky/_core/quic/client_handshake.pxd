"""C declarations of a client's side of a TLS handshake."""

from libc.stdint cimport uint32_t, uint64_t

from spooky._core.quic.handshake cimport NativeTls
from spooky._core.quic.key_schedule cimport KeySchedule
from spooky._core.quic.tls_wire cimport Cursor


cdef class ClientOffer:
    cdef readonly tuple cipher_suites
    cdef readonly tuple groups
    cdef readonly tuple schemes
    cdef dict protocols
    # What a hello says between its random and its extensions, and those that are always the same.
    cdef bytes start
    cdef bytes extensions
    # The types of all extensions that every hello has, as bits.
    cdef uint64_t said


cdef struct ServerHello:
    uint32_t cipher_suite
    bint has_share
    uint32_t group
    Cursor share
    bint has_identity
    uint32_t identity
    bint has_cookie
    Cursor cookie


cdef class ClientHandshake(NativeTls):
    cdef readonly ClientOffer _offer
    cdef public object _parameters
    cdef public str _requested_name
    cdef readonly KeySchedule _schedule
    cdef public int _expect
    # Whether the server's certificate is judged, and whether its tickets are kept.
    cdef bint _judges
    cdef bint _keeps_tickets

    # --- the hello, until it is answered
    cdef public bytes _own_parameters
    cdef uint64_t _said
    cdef bytes _hello
    # After a HelloRetryRequest, what the transcript begins with, else empty; and its cipher suite.
    cdef readonly bytes _retried
    cdef uint32_t _asked_suite
    # Of the share that was brought.
    cdef readonly int _group
    cdef bytes _share
    cdef object _key
    # What is offered to be resumed: a SessionTicket, and its key schedule.
    cdef public object _ticket
    cdef KeySchedule _binding

    # --- the server's flight
    cdef bytes _server_secret
    cdef bytes _client_secret
    # The signature algorithms of its CertificateRequest; None if there was none.
    cdef readonly tuple _requested
    cdef public tuple _chain
    cdef readonly bytes _peer_parameters

    cpdef _make_share(self, int group)
    cpdef _say_hello(
        self, bytes ticket, uint32_t age, KeySchedule binding, bint early_data, bytes cookie
    )
    cdef int on_server_hello(self, bytes message) except -1
    cdef int on_hello(self, ServerHello* said, bytes message) except -1
    cdef int on_retry(self, ServerHello* said, bytes message) except -1
    cdef int on_encrypted_extensions(self, bytes message) except -1
    cdef int on_certificate_request(self, bytes message) except -1
    cdef int on_certificate(self, bytes message) except -1
    cdef int on_certificate_verify(self, bytes message) except -1
    cdef int on_finished(self, bytes message) except -1
    cdef int on_ticket(self, bytes message) except -1
    cdef int on_unexpected(self, int kind, bytes message) except -1
    cdef int check_extension(self, int kind, uint64_t fitting) except -1
    cdef bytes exchange(self, ServerHello* said)
    cdef int let_go(self) except -1
