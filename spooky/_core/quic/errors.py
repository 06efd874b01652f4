"""What a peer did wrong on a QUIC connection, and what happens for it."""

from enum import IntEnum


class TransportError(IntEnum):
    """Transport error codes (RFC 9000 section 20.1, RFC 9368 section 10.2)."""

    NO_ERROR = 0x00
    INTERNAL_ERROR = 0x01
    CONNECTION_REFUSED = 0x02
    FLOW_CONTROL_ERROR = 0x03
    STREAM_LIMIT_ERROR = 0x04
    STREAM_STATE_ERROR = 0x05
    FINAL_SIZE_ERROR = 0x06
    FRAME_ENCODING_ERROR = 0x07
    TRANSPORT_PARAMETER_ERROR = 0x08
    CONNECTION_ID_LIMIT_ERROR = 0x09
    PROTOCOL_VIOLATION = 0x0A
    INVALID_TOKEN = 0x0B
    APPLICATION_ERROR = 0x0C
    CRYPTO_BUFFER_EXCEEDED = 0x0D
    KEY_UPDATE_ERROR = 0x0E
    AEAD_LIMIT_REACHED = 0x0F
    NO_VIABLE_PATH = 0x10
    VERSION_NEGOTIATION_ERROR = 0x11
    CRYPTO_ERROR = 0x100


class QuicError(Exception):
    """The peer broke a rule of QUIC: the connection is closed with this error.

    Arguments:
        error_code: See :class:`TransportError`; for a TLS alert, ``CRYPTO_ERROR`` + alert.
        frame_type: Of the frame at fault; 0 if none is.
        phrase: What was wrong, for the peer's log.
    """

    def __init__(self, error_code: int, frame_type: int, phrase: str) -> None:
        super().__init__(phrase)
        self.error_code = int(error_code)
        self.frame_type = frame_type
        self.phrase = phrase


class Alert(IntEnum):
    """The alerts of TLS that we send (RFC 8446 section 6)."""

    UNEXPECTED_MESSAGE = 10
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_EXPIRED = 45
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class TlsAlert(Exception):  # noqa: N818 - as TLS calls it.
    """TLS ends the handshake: the connection is closed with 0x100 + alert (RFC 9001 section 4.8).

    Arguments:
        alert: Its number (RFC 8446 section 6).
        phrase: What was wrong, for the peer's log.
    """

    def __init__(self, alert: int, phrase: str) -> None:
        super().__init__(phrase)
        self.alert = int(alert)
        self.phrase = phrase
