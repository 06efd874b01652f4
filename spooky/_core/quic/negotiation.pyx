# cython: language_level=3, boundscheck=False, wraparound=False
"""A server's answer to a client's hello (RFC 8446): what is chosen of what the client offers.

Whatever is no rule of TLS, or not in every handshake, is left to a subclass in ``protocol/quic``.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

from spooky._core.quic.client_hello cimport ClientHello, parse_client_hello
from spooky._core.quic cimport x25519
from spooky._core.quic.crypto cimport hash_digest
from spooky._core.quic.handshake cimport HANDSHAKE, INITIAL, ServerHandshake
from spooky._core.quic.key_schedule cimport KeySchedule, hello_digest
from spooky._core.quic.tls_wire cimport CERTIFICATE, FINISHED, TLS_1_3

from cryptography.hazmat.primitives.serialization import Encoding

from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError

cdef enum:
    X25519 = 0x001D
    CRYPTO_FRAME = 0x06

# In our order: AES in hardware is everywhere, and its shorter keys do.
CIPHER_SUITES = (0x1301, 0x1302, 0x1303)

# A HelloRetryRequest (RFC 8446 section 4.1.4): a ServerHello of this random, without a session ID,
# which after the cipher suite has no compression, the version, and of a key share the group alone.
cdef bytes RETRY_START = bytes.fromhex(
    "02 000034 0303 cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c 00"
)
cdef bytes RETRY_EXTENSIONS = bytes.fromhex("00 000c 002b 0002 0304 0033 0002")

# All that a hello of TLS 1.3 may list (RFC 8446 section 4.1.2).
cdef bytes NULL_COMPRESSION = b"\0"


cdef class ServerNegotiation(ServerHandshake):
    CERTIFICATE_REQUEST = b""

    def __init__(self, parameters, events):
        ServerHandshake.__init__(self, events, parameters.secrets_log)
        self._parameters = parameters
        self._client_chain = ()
        self._retried = b""

    cpdef _on_hello(self, bytes message):
        cdef ClientHello hello = parse_client_hello(message)
        cdef KeySchedule schedule
        cdef bytes ours, own_share, shared, x25519_share, certificates = None
        cdef int cipher_suite, group, expect = FINISHED
        cdef object session = None
        self._client_random = hello.random
        self._meet(hello.server_name)
        cipher_suite = self.negotiate(hello)
        if PyBytes_GET_SIZE(hello.session_id) > 0:
            # There is no middlebox compatibility mode (RFC 9001 section 8.4).
            raise QuicError(
                TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, "a hello with a session ID"
            )
        if self._asked_group:
            self.check_second(hello)
        x25519_share = share_of(hello.key_shares, X25519)
        if x25519_share is None:
            group = self._group_to_ask(hello.key_shares, hello.supported_groups)
            if group:
                self.ask_again(message, hello, cipher_suite, group)
                return
        ours = self._tell_peer_parameters(hello.transport_parameters)
        if hello.psk_modes is not None or hello.identities is not None:
            session = self._resumable(hello, cipher_suite)
        chain = self._identity.chain
        if session is None:
            self._scheme = choose_scheme(chain.schemes, hello.signature_schemes)
            schedule = self._schedule = KeySchedule(cipher_suite)
            if self._asked_group:
                schedule.update(self._retried)
            schedule.update(message)
        else:
            self._begin_resumed(message, hello, cipher_suite, session)
        if hello.early_data:
            self._consider_early_data(hello, session)
        group, own_share, shared = self.exchange(hello.key_shares, x25519_share)
        self._send_hello(group, own_share, shared)
        if not self.resumed:
            certificates = chain.message
            if self._identity.client_verifier is not None:
                certificates = self.CERTIFICATE_REQUEST + certificates
                expect = CERTIFICATE
        self._send_flight(b"" if ours is None else ours, certificates, self._scheme, self._sign)
        self._level = HANDSHAKE
        self._expect = expect

    cdef int negotiate(self, ClientHello hello) except -1:
        """Choose the protocol, and return the cipher suite."""
        cdef str protocol
        if hello.versions is None or TLS_1_3 not in hello.versions:
            raise TlsAlert(Alert.PROTOCOL_VERSION, "only TLS 1.3 is spoken")
        if hello.compression_methods != NULL_COMPRESSION:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "compression does not exist any more")
        if hello.key_shares is None or hello.supported_groups is None:
            # Neither comes without the other (RFC 8446 section 9.2).
            raise TlsAlert(Alert.MISSING_EXTENSION, "no key share, or no groups")
        if hello.protocols is not None:
            for protocol in self._parameters.alpn:
                if protocol.encode() in hello.protocols:
                    self.alpn = protocol
                    break
        if not self.alpn:
            raise TlsAlert(Alert.NO_APPLICATION_PROTOCOL, "no application protocol in common")
        for cipher_suite in CIPHER_SUITES:
            if cipher_suite in hello.cipher_suites:
                return cipher_suite
        raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no cipher suite in common")

    cdef int ask_again(self, bytes message, ClientHello hello, int cipher_suite, int group) except -1:
        """Say which group the client's key share has to be of.

        Of the hello only digests stay: until the second, nothing proves that anybody is there.
        """
        cdef bytes request = (
            RETRY_START + cipher_suite.to_bytes(2, "big") + RETRY_EXTENSIONS + group.to_bytes(2, "big")
        )
        self._retried = hello_digest(cipher_suite, message) + request
        self._asked_group = group
        self._first_hello = lasting_part(hello)
        if hello.early_data:
            self.early_data = False
        self._send(INITIAL, request)
        return 0

    cdef int check_second(self, ClientHello hello) except -1:
        """Hold a client to its first hello (RFC 8446 sections 4.1.2 and 4.2.8)."""
        cdef int group
        # A client may add one of a group that nobody has (RFC 8701 section 3.1).
        if [group for group, _ in hello.key_shares if not is_grease(group)] != [self._asked_group]:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "not the one key share that was asked for")
        if hello.early_data:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "early data in a second hello")
        if lasting_part(hello) != self._first_hello:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "a second hello that offers something else")
        self._first_hello = None
        return 0

    cdef tuple exchange(self, list shares, bytes x25519_share):
        """Answer the key shares; return the group chosen, our share and the shared secret."""
        if x25519_share is None:
            return self._exchange(shares)
        try:
            return (X25519, *exchange_x25519(x25519_share))
        except ValueError as error:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "an invalid key share") from error

    cpdef bytes _sign(self, bytes content):
        return sign(self._identity.chain, self._scheme, content)

    cpdef _complete(self):
        """Give a ticket, and say who the client is."""
        if self._client_chain:
            self.client_certificate = self._client_chain[0].public_bytes(Encoding.DER)
        if self._tickets is not None:
            self._give_ticket()
        # Certificates above all, which may be replaced while the connection lives.
        self._parameters = self._identity = self._tickets = None
        self._client_chain = ()


cpdef bytes sign(chain, int scheme, bytes content):
    cdef str hash_name
    hash_name, parameters = chain.schemes[scheme]
    if hash_name:
        content = hash_digest(hash_name, content)
    return chain.key.sign(content, *parameters)


cdef bint is_grease(int number) noexcept:
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


cdef bytes share_of(list shares, int wanted):
    cdef bytes share, found = None
    cdef int group
    for group, share in shares:
        if group == wanted:
            found = share
    return found


cdef bytes lasting_part(ClientHello hello):
    """Return a digest of what a second hello must say again, of all that is read of it."""
    return hash_digest("sha256", repr((
        hello.random,
        hello.cipher_suites,
        hello.server_name,
        hello.protocols,
        hello.versions,
        hello.signature_schemes,
        hello.supported_groups,
        hello.psk_modes,
        hello.transport_parameters,
    )).encode())


cdef tuple exchange_x25519(bytes peer):
    key = x25519.new_key()
    return x25519.public_share(key), x25519.shared_secret(key, peer)


cdef int choose_scheme(dict fitting, tuple offered) except -1:
    """Return the scheme that a client can verify, of those that fit the certificate's key."""
    if offered is None:
        raise TlsAlert(Alert.MISSING_EXTENSION, "no signature algorithms")
    for number in fitting:
        if number in offered:
            return number
    raise TlsAlert(Alert.HANDSHAKE_FAILURE, "no signature algorithm in common")
