# cython: language_level=3, boundscheck=False, wraparound=False
"""The ordinary course of a client's side of a TLS 1.3 handshake (RFC 8446).

Whatever is no rule of TLS, or not in every handshake, is left to a subclass in ``protocol/quic``:
tickets, other groups, second hellos, verification, certificates of ours.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from spooky._core.quic cimport x25519
from spooky._core.quic.handshake cimport (
    APPLICATION,
    HANDSHAKE,
    INITIAL,
    NativeTls,
    make_finished,
    take_finished,
    violation,
)
from spooky._core.quic.key_schedule cimport KeySchedule, hello_digest
from spooky._core.quic.tls_wire cimport (
    ALPN,
    CERTIFICATE,
    CERTIFICATE_AUTHORITIES,
    CERTIFICATE_REQUEST,
    CERTIFICATE_VERIFY,
    CLIENT_HELLO,
    COOKIE,
    EARLY_DATA,
    ENCRYPTED_EXTENSIONS,
    EXTENSIONS_TOLD,
    EXTENSION_HEADER_BYTES,
    FINISHED,
    HEADER_BYTES,
    KEY_SHARE,
    NEW_SESSION_TICKET,
    OID_FILTERS,
    PRE_SHARED_KEY,
    PSK_KEY_EXCHANGE_MODES,
    QUIC_TRANSPORT_PARAMETERS,
    RANDOM_BYTES,
    SERVER_HELLO,
    SERVER_NAME,
    SIGNATURE_ALGORITHMS,
    SIGNATURE_ALGORITHMS_CERT,
    SIGNED_CERTIFICATE_TIMESTAMP,
    STATUS_REQUEST,
    SUPPORTED_GROUPS,
    SUPPORTED_VERSIONS,
    TLS_1_2,
    TLS_1_3,
    Cursor,
    body_of,
    check_end,
    check_length,
    illegal,
    malformed,
    next_extension,
    put_bytes,
    put_extension,
    put_header,
    put_number,
    rest,
    take_last_vector,
    take_number,
    take_pairs,
    take_vector,
)

from spooky._core.quic.errors import Alert, TlsAlert
from spooky._core.quic.tls_wire import read_certificate_verify, read_certificates

cdef enum:
    X25519 = 0x001D

    # Of a ticket's 0-RTT data, the only size there is in QUIC (RFC 9001 section 4.6.1).
    EARLY_DATA_MAX = 0xFFFFFFFF

    # Longest cookie that is repeated, where all extensions together have to fit 64 KiB.
    COOKIE_MAX = 16 * 1024

# Which extensions each message may have (RFC 8446 section 4.2), as bits.
cdef uint64_t IN_SERVER_HELLO = bits((SUPPORTED_VERSIONS, KEY_SHARE, PRE_SHARED_KEY))
cdef uint64_t IN_RETRY = bits((SUPPORTED_VERSIONS, KEY_SHARE, COOKIE))
cdef uint64_t IN_ENCRYPTED_EXTENSIONS = bits(
    (SERVER_NAME, SUPPORTED_GROUPS, ALPN, EARLY_DATA, QUIC_TRANSPORT_PARAMETERS)
)
cdef uint64_t IN_CERTIFICATE_REQUEST = bits((
    STATUS_REQUEST,
    SIGNATURE_ALGORITHMS,
    SIGNED_CERTIFICATE_TIMESTAMP,
    CERTIFICATE_AUTHORITIES,
    OID_FILTERS,
    SIGNATURE_ALGORITHMS_CERT,
))
cdef uint64_t IN_TICKET = bits((EARLY_DATA,))

# All that may be in our hellos: where it does not belong, it is not taken for one unknown.
cdef uint64_t RECOGNIZED = bits((
    SERVER_NAME,
    SUPPORTED_GROUPS,
    SIGNATURE_ALGORITHMS,
    ALPN,
    PRE_SHARED_KEY,
    EARLY_DATA,
    SUPPORTED_VERSIONS,
    COOKIE,
    PSK_KEY_EXCHANGE_MODES,
    KEY_SHARE,
    QUIC_TRANSPORT_PARAMETERS,
))

# What makes a ServerHello a HelloRetryRequest, and what says in one of an older TLS that its server
# speaks the newer one: somebody between made it choose the older (RFC 8446 section 4.1.3).
cdef bytes RETRY_RANDOM = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
cdef bytes DOWNGRADE = b"DOWNGRD"
cdef enum:
    DOWNGRADE_AT = 24


cdef class ClientOffer:
    def __init__(self, cipher_suites, groups, schemes, protocols, extensions):
        self.cipher_suites = tuple(cipher_suites)
        self.groups = tuple(groups)
        self.schemes = tuple(schemes)
        self.protocols = {protocol.encode(): protocol for protocol in protocols}
        suites = b"".join([suite.to_bytes(2, "big") for suite in cipher_suites])
        # No session ID (RFC 9001 section 8.4), and no compression.
        self.start = b"\0" + len(suites).to_bytes(2, "big") + suites + b"\x01\0"
        self.extensions = b"".join([
            kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
            for kind, value in extensions.items()
        ])
        self.said = bits((*extensions, KEY_SHARE, QUIC_TRANSPORT_PARAMETERS))


cdef class ClientHandshake(NativeTls):
    def __init__(
        self, ClientOffer offer, parameters, str server_name, events, bint judges,
        bint keeps_tickets,
    ):
        NativeTls.__init__(self, events, parameters.secrets_log, True)
        self._offer = offer
        self._parameters = parameters
        self._requested_name = server_name
        self._judges = judges
        self._keeps_tickets = keeps_tickets
        self._client_random = os.urandom(RANDOM_BYTES)
        self._retried = b""
        self._chain = ()
        self._expect = SERVER_HELLO

    # --- the hello ------------------------------------------------------------------------------

    def start(self, bytes own_parameters):
        self._own_parameters = own_parameters
        self._make_share(self._offer.groups[0])
        self._say_hello(None, 0, None, False, None)

    cpdef _make_share(self, int group):
        self._group = group
        if group == X25519:
            self._key = x25519.new_key()
            self._share = x25519.public_share(self._key)
        else:
            self._key, self._share = self._new_key(group)

    cpdef _say_hello(
        self, bytes ticket, uint32_t age, KeySchedule binding, bint early_data, bytes cookie
    ):
        cdef ClientOffer offer = self._offer
        cdef Py_ssize_t share = PyBytes_GET_SIZE(self._share)
        cdef Py_ssize_t parameters = PyBytes_GET_SIZE(self._own_parameters)
        cdef Py_ssize_t extensions = (
            PyBytes_GET_SIZE(offer.extensions)
            + EXTENSION_HEADER_BYTES + 2 + 4 + share
            + EXTENSION_HEADER_BYTES + parameters
        )
        cdef Py_ssize_t body, bound = 0, identity = 0
        cdef uint64_t said = offer.said
        cdef bytes message
        cdef uint8_t* at
        if early_data:
            extensions += EXTENSION_HEADER_BYTES
            said |= bits((EARLY_DATA,))
        if cookie is not None:
            extensions += EXTENSION_HEADER_BYTES + 2 + PyBytes_GET_SIZE(cookie)
            said |= bits((COOKIE,))
        if ticket is not None:
            # The list of one identity, and that of its binder.
            identity = 2 + PyBytes_GET_SIZE(ticket) + 4
            bound = 2 + 1 + binding.hash_length
            extensions += EXTENSION_HEADER_BYTES + 2 + identity + bound
            said |= bits((PRE_SHARED_KEY,))
        check_length(extensions)
        body = 2 + RANDOM_BYTES + PyBytes_GET_SIZE(offer.start) + 2 + extensions
        message = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + body)
        at = put_header(<uint8_t*>PyBytes_AS_STRING(message), CLIENT_HELLO, body)
        at = put_number(at, TLS_1_2, 2)
        at = put_bytes(at, self._client_random)
        at = put_bytes(at, offer.start)
        at = put_number(at, extensions, 2)
        at = put_bytes(at, offer.extensions)
        at = put_extension(at, KEY_SHARE, 2 + 4 + share)
        at = put_number(at, 4 + share, 2)
        at = put_number(at, self._group, 2)
        at = put_number(at, share, 2)
        at = put_bytes(at, self._share)
        at = put_extension(at, QUIC_TRANSPORT_PARAMETERS, parameters)
        at = put_bytes(at, self._own_parameters)
        if early_data:
            at = put_extension(at, EARLY_DATA, 0)
        if cookie is not None:
            at = put_extension(at, COOKIE, 2 + PyBytes_GET_SIZE(cookie))
            at = put_number(at, PyBytes_GET_SIZE(cookie), 2)
            at = put_bytes(at, cookie)
        if ticket is not None:
            at = put_extension(at, PRE_SHARED_KEY, 2 + identity + bound)
            at = put_number(at, identity, 2)
            at = put_number(at, PyBytes_GET_SIZE(ticket), 2)
            at = put_bytes(at, ticket)
            at = put_number(at, age, 4)
            # What is bound ends here (RFC 8446 section 4.2.11.2).
            binding.update(self._retried + message[:HEADER_BYTES + body - bound])
            at = put_number(at, bound - 2, 2)
            at = put_number(at, bound - 3, 1)
            put_bytes(at, binding.verify_data(binding.binder_key()))
            binding.update(message[HEADER_BYTES + body - bound:])
        self._said = said
        self._binding = binding
        self._hello = self._retried + message
        self._send(INITIAL, message)

    # --- messages -------------------------------------------------------------------------------

    def _handle(self, bytes message):
        cdef int expect = self._expect
        # A message has its header: that is what was cut by.
        cdef int kind = <uint8_t>PyBytes_AS_STRING(message)[0]
        if kind != expect:
            self.on_unexpected(kind, message)
        elif expect == SERVER_HELLO:
            self.on_server_hello(message)
        elif expect == ENCRYPTED_EXTENSIONS:
            self.on_encrypted_extensions(message)
        elif expect == CERTIFICATE:
            self.on_certificate(message)
        elif expect == CERTIFICATE_VERIFY:
            self.on_certificate_verify(message)
        elif expect == FINISHED:
            self.on_finished(message)
        else:
            self.on_ticket(message)

    cdef int on_unexpected(self, int kind, bytes message) except -1:
        """Take a message that comes instead of another, or none."""
        if kind == CERTIFICATE_REQUEST:
            if self._expect == CERTIFICATE and self._requested is None:
                return self.on_certificate_request(message)
            if self._expect == NEW_SESSION_TICKET:
                raise violation("a request for a certificate after the handshake")  # RFC 9001, 4.4
        raise TlsAlert(Alert.UNEXPECTED_MESSAGE, "an unexpected handshake message")

    cdef int check_extension(self, int kind, uint64_t fitting) except -1:
        """Refuse what answers nothing of our hello, or does so in a wrong message."""
        if kind < EXTENSIONS_TOLD:
            if (fitting & self._said) >> kind & 1:
                return 0
            if self._said >> kind & 1:
                illegal("an extension in a message that it does not belong to")
        raise TlsAlert(Alert.UNSUPPORTED_EXTENSION, "an extension that nobody asked for")

    cdef int on_server_hello(self, bytes message) except -1:
        cdef Cursor body = body_of(message)
        cdef Cursor session, extensions, value
        cdef const uint8_t* random
        cdef ServerHello said
        cdef uint32_t legacy_version, compression
        cdef uint64_t seen = 0, fitting = IN_SERVER_HELLO
        cdef bint is_retry
        cdef int kind
        memset(&said, 0, sizeof(said))
        take_number(&body, 2, &legacy_version)
        random = body.at
        if body.end - body.at < RANDOM_BYTES:
            malformed()
        body.at += RANDOM_BYTES
        take_vector(&body, 1, &session)
        take_number(&body, 2, &said.cipher_suite)
        take_number(&body, 1, &compression)
        extensions = body
        if body.at != body.end:  # An older server may have none.
            take_last_vector(&body, 2, &extensions)
        check_version(extensions, random)
        if legacy_version != TLS_1_2:
            illegal("not the version that every ServerHello says")
        if session.at != session.end:
            illegal("a session ID that is not ours")
        if compression:
            illegal("compression does not exist any more")
        if said.cipher_suite not in self._offer.cipher_suites:
            illegal("a cipher suite that was not offered")
        is_retry = memcmp(random, PyBytes_AS_STRING(RETRY_RANDOM), RANDOM_BYTES) == 0
        if is_retry:
            # Only a cookie may come unasked (RFC 8446 section 4.2).
            self._said |= bits((COOKIE,))
            fitting = IN_RETRY
        while extensions.at != extensions.end:
            kind = next_extension(&extensions, &seen, &value)
            self.check_extension(kind, fitting)
            if kind == KEY_SHARE:
                said.has_share = True
                take_number(&value, 2, &said.group)
                if not is_retry:
                    take_vector(&value, 2, &said.share)
            elif kind == PRE_SHARED_KEY:
                said.has_identity = True
                take_number(&value, 2, &said.identity)
            elif kind == COOKIE:
                said.has_cookie = True
                take_vector(&value, 2, &said.cookie)
                if said.cookie.at == said.cookie.end:
                    malformed()
                if said.cookie.end - said.cookie.at > COOKIE_MAX:
                    illegal("a cookie too long to be repeated")
            else:
                value.at = value.end  # The version, which was checked.
            check_end(&value)
        return self.on_retry(&said, message) if is_retry else self.on_hello(&said, message)

    cdef int on_retry(self, ServerHello* said, bytes message) except -1:
        """Hear that the server wants another hello, once (RFC 8446 section 4.1.4)."""
        cdef int group = said.group if said.has_share else 0
        if PyBytes_GET_SIZE(self._retried):
            raise TlsAlert(Alert.UNEXPECTED_MESSAGE, "a second HelloRetryRequest")
        if not said.has_share and not said.has_cookie:
            illegal("another hello would be the same")
        if said.has_share and (group == self._group or group not in self._offer.groups):
            illegal("a group that was not offered, or whose share was brought")
        self._retried = hello_digest(said.cipher_suite, self._hello) + message
        self._asked_suite = said.cipher_suite
        self._on_retry(said.cipher_suite, group, rest(&said.cookie) if said.has_cookie else None)
        return 0

    cdef int on_hello(self, ServerHello* said, bytes message) except -1:
        cdef KeySchedule schedule = self._binding
        if self._asked_suite and said.cipher_suite != self._asked_suite:
            illegal("not the cipher suite of the HelloRetryRequest")
        if not said.has_share:
            raise TlsAlert(Alert.MISSING_EXTENSION, "no key share")
        if <int>said.group != self._group:
            illegal("a key share of another group")
        if said.has_identity:
            if said.identity:
                illegal("a ticket that was not offered")
            if not schedule.fits(said.cipher_suite):
                illegal("a cipher suite of another hash than the ticket's")
            schedule.cipher_suite = said.cipher_suite
            self.resumed = True
        else:
            schedule = KeySchedule(said.cipher_suite)
            schedule.update(self._hello)
        self._schedule = schedule
        schedule.update(message)
        schedule.advance(self.exchange(said))
        self._hello = self._share = self._own_parameters = None
        self._key = self._binding = None
        self._server_secret = schedule.derive(b"s hs traffic")
        self._client_secret = schedule.derive(b"c hs traffic")
        # What we send first: the server's packets are to be acknowledged (RFC 9001 section 4.1.4).
        self._tell_secret(False, HANDSHAKE, schedule.cipher_suite, self._server_secret)
        self._tell_secret(True, HANDSHAKE, schedule.cipher_suite, self._client_secret)
        self._level = HANDSHAKE
        self._expect = ENCRYPTED_EXTENSIONS
        return 0

    cdef bytes exchange(self, ServerHello* said):
        cdef bytes peer = rest(&said.share)
        try:
            if self._group == X25519:
                return x25519.shared_secret(self._key, peer)
            return self._exchange(self._group, self._key, peer)
        except ValueError as error:
            raise TlsAlert(Alert.ILLEGAL_PARAMETER, "an invalid key share") from error

    cdef int on_encrypted_extensions(self, bytes message) except -1:
        cdef Cursor body = body_of(message)
        cdef Cursor extensions, value, inside, name
        cdef bytes parameters = None, protocol = None
        cdef uint64_t seen = 0
        cdef bint early_data = False
        cdef int kind
        take_last_vector(&body, 2, &extensions)
        while extensions.at != extensions.end:
            kind = next_extension(&extensions, &seen, &value)
            self.check_extension(kind, IN_ENCRYPTED_EXTENSIONS)
            if kind == ALPN:
                take_vector(&value, 2, &inside)
                take_vector(&inside, 1, &name)
                if name.at == name.end:
                    malformed()
                if inside.at != inside.end:
                    illegal("more than one application protocol")
                protocol = rest(&name)
            elif kind == QUIC_TRANSPORT_PARAMETERS:
                parameters = rest(&value)
                value.at = value.end
            elif kind == EARLY_DATA:
                early_data = True
            elif kind == SUPPORTED_GROUPS:
                # For a client's next connection; ours offer what they are told to.
                take_vector(&value, 2, &inside)
                take_pairs(&inside)
            check_end(&value)
        # Of no protocol in common even a server may learn that way only (RFC 9001 section 8.1).
        if protocol is None or protocol not in self._offer.protocols:
            raise TlsAlert(Alert.NO_APPLICATION_PROTOCOL, "no application protocol in common")
        self.alpn = self._offer.protocols[protocol]
        if early_data:
            self._on_early_data()
            self.early_data = True
        self._tell_peer_parameters(parameters)
        if self._keeps_tickets:
            self._peer_parameters = parameters
        self._schedule.update(message)
        self._expect = FINISHED if self.resumed else CERTIFICATE
        return 0

    cdef int on_certificate_request(self, bytes message) except -1:
        cdef Cursor body = body_of(message)
        cdef Cursor extensions, value, inside
        cdef tuple schemes = None
        cdef uint64_t seen = 0
        cdef int kind
        take_vector(&body, 1, &value)
        if value.at != value.end:
            illegal("a request with a context, which are for after the handshake")
        take_last_vector(&body, 2, &extensions)
        while extensions.at != extensions.end:
            kind = next_extension(&extensions, &seen, &value)
            check_request(kind, IN_CERTIFICATE_REQUEST)
            if kind == SIGNATURE_ALGORITHMS:
                take_last_vector(&value, 2, &inside)
                if inside.at == inside.end:
                    malformed()
                schemes = take_pairs(&inside)
        if schemes is None:
            raise TlsAlert(Alert.MISSING_EXTENSION, "a request without signature algorithms")
        self._requested = schemes
        self._schedule.update(message)
        return 0

    cdef int on_certificate(self, bytes message) except -1:
        cdef list certificates = read_certificates(message)
        if not certificates:
            raise TlsAlert(Alert.DECODE_ERROR, "a server without a certificate")
        if self._judges:
            self._on_chain(certificates)
        self._schedule.update(message)
        self._expect = CERTIFICATE_VERIFY
        return 0

    cdef int on_certificate_verify(self, bytes message) except -1:
        cdef tuple said = read_certificate_verify(message)
        if said[0] not in self._offer.schemes:
            illegal("a signature algorithm that was not offered, or for certificates only")
        # Anybody owns some certificate: who takes any learns nothing from a proof of it.
        if self._judges:
            self._on_proof(said[0], said[1], self._schedule.transcript())
        self._schedule.update(message)
        self._expect = FINISHED
        return 0

    cdef int on_finished(self, bytes message) except -1:
        cdef KeySchedule schedule = self._schedule
        cdef bytes sending, flight = b""
        take_finished(schedule, self._server_secret, message)
        schedule.advance()
        self._tell_secret(
            False, APPLICATION, schedule.cipher_suite, schedule.derive(b"s ap traffic")
        )
        sending = schedule.derive(b"c ap traffic")
        if self._requested is not None:
            flight = self._present()
        self._send(HANDSHAKE, flight + make_finished(schedule, self._client_secret))
        self._tell_secret(True, APPLICATION, schedule.cipher_suite, sending)
        self.server_name = self._requested_name
        self._level = APPLICATION
        self._expect = NEW_SESSION_TICKET
        self.let_go()
        self._events.on_handshake_complete()
        return 0

    cdef int let_go(self) except -1:
        """Keep what tickets need, if they are kept: a connection has its endpoint to the end."""
        self._server_secret = self._client_secret = None
        self._client_random = self._retried = b""
        self._requested = self._ticket = None
        self._chain = ()
        self._offer = None
        if not self._keeps_tickets:
            self._schedule = None
            self._parameters = None
        return 0

    cdef int on_ticket(self, bytes message) except -1:
        cdef Cursor body = body_of(message)
        cdef Cursor nonce, ticket, extensions, value
        cdef uint32_t lifetime, age_add, size
        cdef uint64_t seen = 0
        cdef bint early_data = False
        cdef int kind
        take_number(&body, 4, &lifetime)
        take_number(&body, 4, &age_add)
        take_vector(&body, 1, &nonce)
        take_vector(&body, 2, &ticket)
        if ticket.at == ticket.end:
            malformed()
        take_last_vector(&body, 2, &extensions)
        while extensions.at != extensions.end:
            kind = next_extension(&extensions, &seen, &value)
            check_request(kind, IN_TICKET)
            if kind == EARLY_DATA:
                take_number(&value, 4, &size)
                check_end(&value)
                if size != EARLY_DATA_MAX:
                    raise violation("a ticket with a limit of 0-RTT data")
                early_data = True
        if self._keeps_tickets:
            self._keep_ticket(lifetime, age_add, rest(&nonce), rest(&ticket), early_data)
        return 0


cdef uint64_t bits(tuple kinds) noexcept:
    cdef uint64_t found = 0
    cdef int kind
    for kind in kinds:
        found |= (<uint64_t>1) << kind
    return found


cdef int check_version(Cursor extensions, const uint8_t* random) except -1:
    """Find the version before anything else is judged (RFC 8446 section 4.2.1)."""
    cdef Cursor value
    cdef uint64_t seen = 0
    cdef uint32_t version
    while extensions.at != extensions.end:
        if next_extension(&extensions, &seen, &value) == SUPPORTED_VERSIONS:
            take_number(&value, 2, &version)
            check_end(&value)
            if version != TLS_1_3:
                illegal("a version that was not offered")
            return 0
    if memcmp(random + DOWNGRADE_AT, PyBytes_AS_STRING(DOWNGRADE), len(DOWNGRADE)) == 0:
        illegal("somebody made the server choose an older version")
    raise TlsAlert(Alert.PROTOCOL_VERSION, "only TLS 1.3 is spoken")


cdef int check_request(int kind, uint64_t fitting) except -1:
    """Refuse what belongs to other messages; what is unknown is passed over (RFC 8701, section 4)."""
    if kind < EXTENSIONS_TOLD and (RECOGNIZED & ~fitting) >> kind & 1:
        illegal("an extension in a message that it does not belong to")
    return 0
