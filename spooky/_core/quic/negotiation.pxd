"""C declarations of a server's answer to a hello."""

from spooky._core.quic.client_hello cimport ClientHello
from spooky._core.quic.handshake cimport ServerHandshake


cdef class ServerNegotiation(ServerHandshake):
    cdef readonly object _parameters
    cdef public object _identity
    cdef public tuple _client_chain
    # Seals the ticket of this session; None if its client cannot resume it.
    cdef public object _tickets
    # With which the certificate's key signs, and as what.
    cdef int _scheme
    # After a HelloRetryRequest, what the transcript begins with; else empty. And the group asked for,
    # and the digest of what a second hello must repeat.
    cdef readonly bytes _retried
    cdef int _asked_group
    cdef bytes _first_hello

    cpdef _on_hello(self, bytes message)
    cpdef bytes _sign(self, bytes content)
    cdef int negotiate(self, ClientHello hello) except -1
    cdef int ask_again(self, bytes message, ClientHello hello, int cipher_suite, int group) except -1
    cdef int check_second(self, ClientHello hello) except -1
    cdef tuple exchange(self, list shares, bytes x25519_share)


cpdef bytes sign(chain, int scheme, bytes content)
cdef bytes share_of(list shares, int wanted)
cdef bytes lasting_part(ClientHello hello)
cdef tuple exchange_x25519(bytes peer)
