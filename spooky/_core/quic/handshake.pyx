# cython: language_level=3, boundscheck=False, wraparound=False
"""The ordinary course of a TLS 1.3 handshake (RFC 8446): messages cut, written and hashed in C.

What is to be decided about, and whatever is not in every handshake, is left to subclasses in
``protocol/quic``: names, certificates, tickets, client certificates, 0-RTT data.
"""

import os
from hmac import compare_digest

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from spooky._core.quic.key_schedule cimport KeySchedule
from spooky._core.quic.tls_wire cimport (
    ALPN,
    CERTIFICATE,
    CERTIFICATE_VERIFY,
    CLIENT_HELLO,
    EARLY_DATA,
    ENCRYPTED_EXTENSIONS,
    EXTENSION_HEADER_BYTES,
    FINISHED,
    HEADER_BYTES,
    KEY_SHARE,
    PRE_SHARED_KEY,
    QUIC_TRANSPORT_PARAMETERS,
    RANDOM_BYTES,
    SERVER_HELLO,
    SUPPORTED_VERSIONS,
    TLS_1_2,
    TLS_1_3,
    check_length,
    put_bytes,
    put_extension,
    put_header,
    put_number,
)

from spooky._core.quic.errors import Alert, QuicError, TlsAlert, TransportError

cdef enum:
    NOTHING = 0  # What is expected after the last message.
    CRYPTO_FRAME = 0x06

    # Largest handshake message taken. Its header can announce 16 MiB. Browsers' hellos have 2 KiB,
    # long client chains 10 KiB.
    MESSAGE_MAX = 64 * 1024

# What goes before a transcript that is signed (RFC 8446 section 4.4.3).
cdef bytes SERVER_SIGNATURE = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"

# How key logs call the secret of a level; under the first of each a client sends.
cdef tuple SECRET_LABELS = (
    None,
    ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"),
    ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"),
    ("CLIENT_EARLY_TRAFFIC_SECRET", None),
)


cdef class NativeTls:
    def __init__(self, events, secrets_log, bint is_client):
        self.alpn = ""
        self._events = events
        self._secrets_log = secrets_log
        self._is_client = is_client
        self._client_random = b""
        self._level = INITIAL

    def start(self, bytes own_parameters):
        raise ValueError("a server does not begin a handshake")

    cpdef receive(self, int epoch, bytes data):
        cdef const uint8_t* start
        cdef Py_ssize_t size, length, at = 0
        if not data:
            return
        if epoch != self._level:
            raise violation("handshake data at a wrong level")
        if self._incoming is not None:
            data = self.waiting(data)
            if data is None:
                return
        start = <const uint8_t*>PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
        while size - at >= HEADER_BYTES:
            length = message_length(start + at)
            if size - at < length:
                break
            self._handle(data if length == size else PyBytes_FromStringAndSize(
                <const char*>start + at, length
            ))
            at += length
            if at < size and epoch != self._level:
                raise violation("handshake data after its end")
        if at < size:
            self._incoming = bytearray(
                PyBytes_FromStringAndSize(<const char*>start + at, size - at)
            )

    cdef bytes waiting(self, bytes data):
        """Return data with what came before it, once that is a message."""
        cdef bytearray incoming = self._incoming
        cdef Py_ssize_t size
        incoming += data
        size = len(incoming)
        if size < HEADER_BYTES or size < message_length(<const uint8_t*><char*>incoming):
            return None
        self._incoming = None
        return bytes(incoming)

    cpdef bytes take_output(self, int epoch):
        cdef bytes said
        if epoch == INITIAL:
            said, self._initial = self._initial, None
        elif epoch == HANDSHAKE:
            said, self._handshake = self._handshake, None
        else:
            said, self._application = self._application, None
        return b"" if said is None else said

    cpdef _send(self, int epoch, bytes messages):
        if epoch == INITIAL:
            self._initial = joined(self._initial, messages)
        elif epoch == HANDSHAKE:
            self._handshake = joined(self._handshake, messages)
        else:
            self._application = joined(self._application, messages)

    cpdef _tell_secret(self, bint sending, int epoch, int cipher_suite, bytes secret):
        if self._secrets_log is not None:
            label = SECRET_LABELS[epoch][sending != self._is_client]
            self._secrets_log.write(f"{label} {self._client_random.hex()} {secret.hex()}\n")
            self._secrets_log.flush()
        self._events.on_secret(sending, epoch, cipher_suite, secret)

    cpdef bytes _tell_peer_parameters(self, bytes encoded):
        if encoded is None:
            raise TlsAlert(Alert.MISSING_EXTENSION, "no QUIC transport parameters")
        return self._events.on_peer_parameters(encoded)


cdef class ServerHandshake(NativeTls):
    def __init__(self, events, secrets_log):
        NativeTls.__init__(self, events, secrets_log, False)
        self._expect = CLIENT_HELLO

    def _handle(self, bytes message):
        cdef int expect = self._expect
        # A message has its header: that is what was cut by.
        if <uint8_t>PyBytes_AS_STRING(message)[0] != expect or expect == NOTHING:
            raise TlsAlert(Alert.UNEXPECTED_MESSAGE, "an unexpected handshake message")
        if expect == CLIENT_HELLO:
            self._on_hello(message)
        elif expect == FINISHED:
            self._on_finished(message)
        elif expect == CERTIFICATE:
            self._on_certificate(message)
        else:
            self._on_certificate_verify(message)

    cpdef _on_hello(self, bytes message):
        raise TypeError("a hello is answered by a subclass")

    cpdef _complete(self):
        """Do nothing more at the end of the handshake."""

    cpdef _send_hello(self, int group, bytes own_share, bytes shared):
        cdef KeySchedule schedule = self._schedule
        cdef Py_ssize_t share = PyBytes_GET_SIZE(own_share)
        cdef Py_ssize_t extensions = (
            EXTENSION_HEADER_BYTES + 2
            + EXTENSION_HEADER_BYTES + 4 + share
            + (EXTENSION_HEADER_BYTES + 2 if self.resumed else 0)
        )
        cdef Py_ssize_t body = 2 + RANDOM_BYTES + 1 + 2 + 1 + 2 + extensions
        cdef bytes random = os.urandom(RANDOM_BYTES)
        cdef bytes message
        cdef uint8_t* at
        check_length(extensions)
        message = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + body)
        at = put_header(<uint8_t*>PyBytes_AS_STRING(message), SERVER_HELLO, body)
        at = put_number(at, TLS_1_2, 2)
        at = put_bytes(at, random)
        at = put_number(at, 0, 1)  # The session ID, which is empty.
        at = put_number(at, schedule.cipher_suite, 2)
        at = put_number(at, 0, 1)  # No compression.
        at = put_number(at, extensions, 2)
        at = put_extension(at, SUPPORTED_VERSIONS, 2)
        at = put_number(at, TLS_1_3, 2)
        at = put_extension(at, KEY_SHARE, 4 + share)
        at = put_number(at, group, 2)
        at = put_number(at, share, 2)
        at = put_bytes(at, own_share)
        if self.resumed:
            # The first ticket: no other is looked at.
            at = put_extension(at, PRE_SHARED_KEY, 2)
            at = put_number(at, 0, 2)
        schedule.update(message)
        self._send(INITIAL, message)
        schedule.advance(shared)
        self._server_secret = schedule.derive(b"s hs traffic")
        self._client_secret = schedule.derive(b"c hs traffic")
        self._tell_secret(True, HANDSHAKE, schedule.cipher_suite, self._server_secret)
        self._tell_secret(False, HANDSHAKE, schedule.cipher_suite, self._client_secret)

    cpdef _send_flight(self, bytes parameters, bytes certificates, int scheme, object sign):
        cdef KeySchedule schedule = self._schedule
        cdef bytes flight = self.encrypted_extensions(parameters)
        cdef bytes signature, message
        cdef Py_ssize_t length
        cdef uint8_t* at
        if certificates is not None:
            flight += certificates
        schedule.update(flight)
        if certificates is not None:
            signature = sign(SERVER_SIGNATURE + schedule.transcript())
            length = PyBytes_GET_SIZE(signature)
            check_length(length)
            message = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + 4 + length)
            at = put_header(<uint8_t*>PyBytes_AS_STRING(message), CERTIFICATE_VERIFY, 4 + length)
            at = put_number(at, scheme, 2)
            at = put_number(at, length, 2)
            put_bytes(at, signature)
            schedule.update(message)
            flight += message
        message = make_finished(schedule, self._server_secret)
        self._send(HANDSHAKE, flight + message)
        schedule.advance()
        self._tell_secret(
            True, APPLICATION, schedule.cipher_suite, schedule.derive(b"s ap traffic")
        )
        self._client_application_secret = schedule.derive(b"c ap traffic")

    cdef bytes encrypted_extensions(self, bytes parameters):
        cdef bytes alpn = self.alpn.encode()
        cdef Py_ssize_t name = PyBytes_GET_SIZE(alpn), size = PyBytes_GET_SIZE(parameters)
        cdef bint early = self.early_data is True
        cdef Py_ssize_t extensions = (
            EXTENSION_HEADER_BYTES + 3 + name
            + EXTENSION_HEADER_BYTES + size
            + (EXTENSION_HEADER_BYTES if early else 0)
        )
        cdef bytes message
        cdef uint8_t* at
        check_length(extensions)
        if name > 0xFF:
            raise OverflowError("an application protocol has at most 255 bytes")
        message = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + 2 + extensions)
        at = put_header(
            <uint8_t*>PyBytes_AS_STRING(message), ENCRYPTED_EXTENSIONS, 2 + extensions
        )
        at = put_number(at, extensions, 2)
        at = put_extension(at, ALPN, 3 + name)
        at = put_number(at, 1 + name, 2)
        at = put_number(at, name, 1)
        at = put_bytes(at, alpn)
        at = put_extension(at, QUIC_TRANSPORT_PARAMETERS, size)
        at = put_bytes(at, parameters)
        if early:
            put_extension(at, EARLY_DATA, 0)
        return message

    cpdef _on_finished(self, bytes message):
        cdef KeySchedule schedule = self._schedule
        take_finished(schedule, self._client_secret, message)
        self._expect = NOTHING
        self._level = APPLICATION
        self._tell_secret(
            False, APPLICATION, schedule.cipher_suite, self._client_application_secret
        )
        self._complete()
        # A connection has its endpoint to the end, and that needs none of this any more.
        self._schedule = None
        self._server_secret = self._client_secret = self._client_application_secret = None
        self._client_random = b""
        self._events.on_handshake_complete()


cdef bytes make_finished(KeySchedule schedule, bytes secret):
    """Return the Finished of who sends under a secret, and add it to the transcript."""
    cdef bytes message = finished(schedule, secret)
    schedule.update(message)
    return message


cdef int take_finished(KeySchedule schedule, bytes secret, bytes message) except -1:
    """Check the Finished of who sends under a secret, and add it to the transcript."""
    cdef bytes expected = finished(schedule, secret)
    if PyBytes_GET_SIZE(message) != PyBytes_GET_SIZE(expected):
        raise TlsAlert(Alert.DECODE_ERROR, "a Finished of a wrong length")
    if not compare_digest(message, expected):
        raise TlsAlert(Alert.DECRYPT_ERROR, "a Finished that does not fit the handshake")
    schedule.update(message)
    return 0


cdef bytes finished(KeySchedule schedule, bytes secret):
    """Return the Finished of who sends under a secret, for the messages so far."""
    cdef bytes message = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + schedule.hash_length)
    put_bytes(
        put_header(<uint8_t*>PyBytes_AS_STRING(message), FINISHED, schedule.hash_length),
        schedule.verify_data(secret),
    )
    return message


cdef object violation(str phrase):
    return QuicError(TransportError.PROTOCOL_VIOLATION, CRYPTO_FRAME, phrase)


cdef Py_ssize_t message_length(const uint8_t* start) except -1:
    """Return the length of a message whose header is there, header included."""
    cdef Py_ssize_t length = HEADER_BYTES + (start[1] << 16 | start[2] << 8 | start[3])
    if length > MESSAGE_MAX:
        raise QuicError(
            TransportError.CRYPTO_BUFFER_EXCEEDED, CRYPTO_FRAME, "too much handshake data"
        )
    return length


cdef bytes joined(bytes before, bytes more):
    return more if before is None else before + more
