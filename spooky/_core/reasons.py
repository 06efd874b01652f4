"""The one table of decisions: why a request, stream or connection ended as it did.

Whoever refuses, sheds, retries, reroutes or resets names a :class:`Reason` from here. Metrics
labels, the access log and ``docs/reasons.md`` are read from this table.
"""

from enum import StrEnum
from typing import Final

# HTTP/3 error codes, RFC 9114 section 8.1.
H3_NO_ERROR: Final = 0x100
H3_GENERAL_PROTOCOL_ERROR: Final = 0x101
H3_INTERNAL_ERROR: Final = 0x102
H3_EXCESSIVE_LOAD: Final = 0x107
H3_REQUEST_REJECTED: Final = 0x10B
H3_REQUEST_CANCELLED: Final = 0x10C
H3_MESSAGE_ERROR: Final = 0x10E

# HTTP/2 error codes, RFC 9113 section 7.
H2_NO_ERROR: Final = 0x0
H2_PROTOCOL_ERROR: Final = 0x1
H2_INTERNAL_ERROR: Final = 0x2
H2_FRAME_SIZE_ERROR: Final = 0x6
H2_REFUSED_STREAM: Final = 0x7
H2_CANCEL: Final = 0x8
H2_ENHANCE_YOUR_CALM: Final = 0xB

_H2_OF_H3: Final = {
    H3_NO_ERROR: H2_NO_ERROR,
    H3_GENERAL_PROTOCOL_ERROR: H2_PROTOCOL_ERROR,
    H3_INTERNAL_ERROR: H2_INTERNAL_ERROR,
    H3_EXCESSIVE_LOAD: H2_ENHANCE_YOUR_CALM,
    H3_REQUEST_REJECTED: H2_REFUSED_STREAM,
    H3_REQUEST_CANCELLED: H2_CANCEL,
    H3_MESSAGE_ERROR: H2_PROTOCOL_ERROR,
}


class Stage(StrEnum):
    """Where in the life of a request or connection a decision falls."""

    CONNECTION = "connection"
    VALIDATE = "validate"
    POLICY = "policy"
    ROUTE = "route"
    ADMIT = "admit"
    BALANCE = "balance"
    CONNECT = "connect"
    REQUEST = "request"
    RESPONSE = "response"
    HEALTH = "health"
    END = "end"


class Retry(StrEnum):
    """Whether a request that failed may be sent to a backend once more; the names of conditions."""

    NEVER = "never"
    ADMISSION = "other_backend"
    """No backend had it yet: admission itself goes to another one."""
    CONNECT = "connect_failure"
    REFUSED = "refused_stream"
    RESET = "reset_before_head"
    STATUS = "status"
    TIMEOUT = "timeout"

    @property
    def is_unprocessed(self) -> bool:
        """Whether the backend did nothing with the request, so that any may be sent again."""
        return self is Retry.CONNECT or self is Retry.REFUSED


class Fault(StrEnum):
    """Whose fault it was."""

    NOBODY = "nobody"
    CLIENT = "client"
    UPSTREAM = "upstream"
    US = "us"


class Reason:
    """One row of the table; compare with ``is``.

    Attributes:
        index: Position in :data:`TABLE`; the slot that counters use.
        code: Stable identifier, used as metric label and log value.
        stage: Where it is decided.
        status: HTTP status answered if no response head was sent; 0 where none is.
        h3_error: HTTP/3 code when the stream is reset (RFC 9114 section 8.1).
        h2_error: HTTP/2 code when the stream is reset (RFC 9113 section 7).
        retryable: Whether another backend may be tried, and what that depends on.
        fault: Whose fault it was.
        text: One sentence for people; also the body of the answer.
    """

    __slots__ = (
        "code", "fault", "h2_error", "h3_error", "index", "retryable", "stage", "status", "text",
    )  # fmt: skip

    def __init__(
        self,
        stage: Stage,
        code: str,
        status: int,
        text: str,
        fault: Fault,
        *,
        h3_error: int = H3_INTERNAL_ERROR,
        retryable: Retry = Retry.NEVER,
    ) -> None:
        self.index = len(TABLE)
        self.stage = stage
        self.code = code
        self.status = status
        self.text = text
        self.fault = fault
        self.h3_error = h3_error
        self.h2_error = _H2_OF_H3[h3_error]
        self.retryable = retryable
        TABLE.append(self)

    def __repr__(self) -> str:
        return f"<Reason {self.stage}/{self.code}>"

    def __reduce__(self) -> tuple[object, ...]:
        return by_code, (self.code,)


TABLE: Final[list[Reason]] = []


def by_code(code: str) -> Reason:
    """Return the row with this code.

    Raises:
        KeyError: No row has it.
    """
    for reason in TABLE:
        if reason.code == code:
            return reason
    raise KeyError(code)


def _malformed(code: str, text: str, status: int = 400) -> Reason:
    """Add a row for a request that breaks the rules (RFC 9114 section 4.1.2)."""
    return Reason(Stage.VALIDATE, code, status, text, Fault.CLIENT, h3_error=H3_MESSAGE_ERROR)


# --- the end of a request that went well ------------------------------------------------------
COMPLETED = Reason(
    Stage.END, "completed", 0, "The exchange completed.", Fault.NOBODY, h3_error=H3_NO_ERROR
)

# --- validate: request heads, trailers and content --------------------------------------------
TOO_MANY_FIELDS = _malformed("too_many_fields", "The request has too many header fields.", 431)
FIELDS_TOO_LARGE = _malformed("fields_too_large", "The request header fields are too large.", 431)
BAD_FIELD_NAME = _malformed("bad_field_name", "A header field name is not a lowercase token.")
UNDERSCORE_IN_NAME = _malformed("underscore_in_name", "A header field name has an underscore.")
BAD_FIELD_VALUE = _malformed("bad_field_value", "A header field value has a forbidden byte.")
BAD_PSEUDO_HEADER = _malformed(
    "bad_pseudo_header", "A pseudo-header is unknown, repeated, misplaced or not allowed here."
)
MISSING_PSEUDO_HEADER = _malformed("missing_pseudo_header", "A required pseudo-header is missing.")
CONNECTION_SPECIFIC_FIELD = _malformed(
    "connection_specific_field", "A connection-specific field is not allowed in HTTP/2 or HTTP/3."
)
BAD_METHOD = _malformed("bad_method", "The method is not a token in capitals.")
BAD_SCHEME = _malformed("bad_scheme", "The scheme is neither http nor https.")
BAD_AUTHORITY = _malformed("bad_authority", "The authority is missing or malformed.")
AUTHORITY_MISMATCH = _malformed("authority_mismatch", "The authority and Host differ.")
DUPLICATE_HOST = _malformed("duplicate_host", "There is more than one Host field.")
BAD_PATH = _malformed("bad_path", "The path is malformed.")
PATH_DOT_SEGMENT = _malformed("path_dot_segment", "The path has a dot segment.")
PATH_BACKSLASH = _malformed("path_backslash", "The path has a backslash.")
PATH_BAD_ESCAPE = _malformed("path_bad_escape", "The path has an invalid percent-escape.")
BAD_CONTENT_LENGTH = _malformed("bad_content_length", "The content-length is not one number.")
CONTENT_LENGTH_MISMATCH = _malformed(
    "content_length_mismatch", "The body is not as long as its content-length."
)
BODY_NOT_ALLOWED = _malformed("body_not_allowed", "This request must not have a body.")
BAD_TRAILER = _malformed("bad_trailer", "A trailer field is not allowed.")
BAD_FRAMING = _malformed("bad_framing", "The request framing is ambiguous or malformed.")
UPGRADE_NOT_SUPPORTED = _malformed("upgrade_not_supported", "Protocol upgrades are not supported.")
VERSION_NOT_SUPPORTED = _malformed(
    "version_not_supported", "The HTTP version is not supported.", 505
)
TARGET_TOO_LONG = _malformed("target_too_long", "The request target is too long.", 414)
EXPECTATION_FAILED = _malformed("expectation_failed", "The expectation cannot be met.", 417)

# --- policy -----------------------------------------------------------------------------------
METHOD_NOT_ALLOWED = Reason(
    Stage.POLICY, "method_not_allowed", 405, "The method is not allowed.", Fault.CLIENT
)
PATH_DENIED = Reason(Stage.POLICY, "path_denied", 403, "The path is denied.", Fault.CLIENT)
CONNECT_NOT_ALLOWED = Reason(
    Stage.POLICY, "connect_not_allowed", 403, "CONNECT is not allowed.", Fault.CLIENT
)
TOO_EARLY = Reason(
    Stage.POLICY, "too_early", 425,
    "The request came in early data, where its method is not allowed; send it again.", Fault.CLIENT,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
BODY_TOO_LARGE = Reason(
    Stage.POLICY, "body_too_large", 413, "The request body is too large.", Fault.CLIENT
)

# --- route, admit, balance --------------------------------------------------------------------
MISDIRECTED = Reason(
    Stage.ROUTE, "misdirected", 421,
    "The connection was not made for this authority: its certificate does not cover it, or other "
    "client certificates are asked for there.", Fault.CLIENT,
)  # fmt: skip
NO_ROUTE = Reason(Stage.ROUTE, "no_route", 404, "No route matches the request.", Fault.CLIENT)
GLOBAL_INFLIGHT = Reason(
    Stage.ADMIT, "global_inflight", 503, "Too many requests are in flight.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
UPSTREAM_INFLIGHT = Reason(
    Stage.ADMIT, "upstream_inflight", 503, "Too many requests are in flight to this upstream.",
    Fault.US, h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
BACKEND_INFLIGHT = Reason(
    Stage.ADMIT, "backend_inflight", 503, "Too many requests are in flight to this backend.",
    Fault.US, h3_error=H3_REQUEST_REJECTED, retryable=Retry.ADMISSION,
)  # fmt: skip
REQUEST_BUFFER_CAP = Reason(
    Stage.ADMIT, "request_buffer_cap", 503, "The request buffers are full.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
BROWNOUT = Reason(
    Stage.ADMIT, "brownout", 503, "Requests of this priority are shed under the present load.",
    Fault.US, h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
OVERLOAD_SHED = Reason(
    Stage.ADMIT, "overload_shed", 503,
    "Requests of this priority are shed while resources are running out.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
ADAPTIVE_ADMISSION = Reason(
    Stage.ADMIT, "adaptive_admission", 503, "This upstream takes no more requests at once now.",
    Fault.US, h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
ROUTE_CAP = Reason(
    Stage.ADMIT, "route_cap", 503, "Too many requests are in flight by this route.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
ROUTE_GLOBAL_CAP = Reason(
    Stage.ADMIT, "route_global_cap", 503, "Too many requests are in flight by all routes.",
    Fault.US, h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
QUEUE_TIMEOUT = Reason(
    Stage.ADMIT, "queue_timeout", 503, "The request waited for a place in flight in vain.",
    Fault.US, h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
CIRCUIT_OPEN = Reason(
    Stage.BALANCE, "circuit_open", 503, "Every backend with room failed, and is left alone.",
    Fault.UPSTREAM, h3_error=H3_REQUEST_REJECTED, retryable=Retry.ADMISSION,
)  # fmt: skip
NO_BACKEND = Reason(Stage.BALANCE, "no_backend", 503, "No backend is available.", Fault.UPSTREAM)

# --- connect ----------------------------------------------------------------------------------
CONNECT_TIMEOUT = Reason(
    Stage.CONNECT, "connect_timeout", 504, "The backend did not accept a connection in time.",
    Fault.UPSTREAM, retryable=Retry.CONNECT,
)  # fmt: skip
CONNECT_REFUSED = Reason(
    Stage.CONNECT, "connect_refused", 502, "The backend refused the connection.",
    Fault.UPSTREAM, retryable=Retry.CONNECT,
)  # fmt: skip
CONNECT_FAILED = Reason(
    Stage.CONNECT, "connect_failed", 502, "The backend could not be reached.",
    Fault.UPSTREAM, retryable=Retry.CONNECT,
)  # fmt: skip
NAME_RESOLUTION_FAILED = Reason(
    Stage.CONNECT, "name_resolution_failed", 502, "The backend's name did not resolve.",
    Fault.UPSTREAM, retryable=Retry.CONNECT,
)  # fmt: skip
UPSTREAM_TLS_FAILED = Reason(
    Stage.CONNECT, "upstream_tls_failed", 502, "The TLS handshake with the backend failed.",
    Fault.UPSTREAM, retryable=Retry.CONNECT,
)  # fmt: skip
UPSTREAM_CERTIFICATE_INVALID = Reason(
    Stage.CONNECT, "upstream_certificate_invalid", 502,
    "The backend's certificate could not be verified.", Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_ALPN_MISMATCH = Reason(
    Stage.CONNECT, "upstream_alpn_mismatch", 502,
    "The backend did not negotiate the configured protocol.", Fault.UPSTREAM,
)  # fmt: skip

# --- request: while the request is being sent -------------------------------------------------
CLIENT_RESET = Reason(
    Stage.REQUEST, "client_reset", 0, "The client gave the request up.", Fault.CLIENT,
    h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_CONNECTION_LOST = Reason(
    Stage.REQUEST, "client_connection_lost", 0, "The client's connection was lost.", Fault.CLIENT,
    h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_PROTOCOL_ERROR = Reason(
    Stage.REQUEST, "client_protocol_error", 0, "The client broke the protocol.", Fault.CLIENT,
    h3_error=H3_GENERAL_PROTOCOL_ERROR,
)  # fmt: skip
CLIENT_BODY_TIMEOUT = Reason(
    Stage.REQUEST, "client_body_timeout", 408, "The request body did not arrive in time.",
    Fault.CLIENT, h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_BODY_SLOW = Reason(
    Stage.REQUEST, "client_body_slow", 408, "The request body arrived too slowly.",
    Fault.CLIENT, h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_READ_SLOW = Reason(
    Stage.RESPONSE, "client_read_slow", 0, "The client read the response too slowly.",
    Fault.CLIENT, h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_READ_TIMEOUT = Reason(
    Stage.RESPONSE, "client_read_timeout", 0, "The client did not read the response in time.",
    Fault.CLIENT, h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
CLIENT_HEAD_TIMEOUT = Reason(
    Stage.REQUEST, "client_head_timeout", 408, "The request head did not arrive in time.",
    Fault.CLIENT, h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
REQUEST_TIMEOUT = Reason(
    Stage.REQUEST, "request_timeout", 408, "The request took longer than its total timeout.",
    Fault.NOBODY,
)  # fmt: skip
UPSTREAM_REFUSED = Reason(
    Stage.REQUEST, "upstream_refused", 502, "The backend refused the stream unprocessed.",
    Fault.UPSTREAM, retryable=Retry.REFUSED,
)  # fmt: skip
UPSTREAM_GOING_AWAY = Reason(
    Stage.REQUEST, "upstream_going_away", 502,
    "The backend closed the connection without having looked at the request.", Fault.UPSTREAM,
    retryable=Retry.REFUSED,
)  # fmt: skip

# --- response ---------------------------------------------------------------------------------
UPSTREAM_RESET = Reason(
    Stage.RESPONSE,
    "upstream_reset",
    502,
    "The backend reset the stream.",
    Fault.UPSTREAM,
    retryable=Retry.RESET,
)
UPSTREAM_VERSION_FALLBACK = Reason(
    Stage.RESPONSE, "upstream_version_fallback", 502,
    "The backend serves this only over another version of HTTP.", Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_CONNECTION_LOST = Reason(
    Stage.RESPONSE, "upstream_connection_lost", 502, "The connection to the backend was lost.",
    Fault.UPSTREAM, retryable=Retry.RESET,
)  # fmt: skip
UPSTREAM_PROTOCOL_ERROR = Reason(
    Stage.RESPONSE, "upstream_protocol_error", 502, "The backend broke the protocol.",
    Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_BAD_RESPONSE = Reason(
    Stage.RESPONSE, "upstream_bad_response", 502, "The backend's response head is malformed.",
    Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_FIELDS_TOO_LARGE = Reason(
    Stage.RESPONSE, "upstream_fields_too_large", 502,
    "The backend's response header fields are too large.", Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_BODY_CUT_SHORT = Reason(
    Stage.RESPONSE, "upstream_body_cut_short", 502, "The backend cut its response short.",
    Fault.UPSTREAM,
)  # fmt: skip
UPSTREAM_HEAD_TIMEOUT = Reason(
    Stage.RESPONSE, "upstream_head_timeout", 504, "The backend did not answer in time.",
    Fault.UPSTREAM, retryable=Retry.TIMEOUT,
)  # fmt: skip
TRY_TIMEOUT = Reason(
    Stage.RESPONSE, "try_timeout", 504, "The backend did not answer in the time of one try.",
    Fault.UPSTREAM, retryable=Retry.TIMEOUT,
)  # fmt: skip
UPSTREAM_STATUS = Reason(
    Stage.RESPONSE, "upstream_status", 503,
    "The backend answered with a status after which others are tried, and none could be.",
    Fault.UPSTREAM, retryable=Retry.STATUS,
)  # fmt: skip
HEDGE_LOST = Reason(
    Stage.RESPONSE, "hedge_lost", 0, "The answer of another backend came first.", Fault.NOBODY,
    h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
UPSTREAM_BODY_TIMEOUT = Reason(
    Stage.RESPONSE, "upstream_body_timeout", 504, "The backend's response body stalled.",
    Fault.UPSTREAM,
)  # fmt: skip
RESPONSE_TOO_LARGE = Reason(
    Stage.RESPONSE, "response_too_large", 503, "The response is larger than its limit.",
    Fault.UPSTREAM,
)  # fmt: skip
APPLICATION_ERROR = Reason(
    Stage.RESPONSE, "application_error", 500, "The embedded application failed.", Fault.UPSTREAM
)
INTERNAL_ERROR = Reason(Stage.RESPONSE, "internal_error", 500, "Spooky failed.", Fault.US)

# --- connection -------------------------------------------------------------------------------
CONNECTION_CAP = Reason(
    Stage.CONNECTION, "connection_cap", 0, "Too many connections are open.", Fault.US
)
HALF_OPEN_CAP = Reason(
    Stage.CONNECTION, "half_open_cap", 0, "Too many handshakes are under way.", Fault.US
)
HANDSHAKE_BACKLOG = Reason(
    Stage.CONNECTION, "handshake_backlog", 0, "Too many datagrams of handshakes wait their turn.",
    Fault.US,
)  # fmt: skip
NEW_CONNECTION_RATE = Reason(
    Stage.CONNECTION, "new_connection_rate", 0, "Connections arrive too fast.", Fault.US
)
SOURCE_CONNECTION_RATE = Reason(
    Stage.CONNECTION, "source_connection_rate", 0, "Connections from this source arrive too fast.",
    Fault.CLIENT,
)  # fmt: skip
SOURCE_DROPPED = Reason(
    Stage.CONNECTION, "source_dropped", 0, "A rule drops what comes from this source.", Fault.CLIENT
)
FLOOD_UNPROVEN = Reason(
    Stage.CONNECTION, "flood_unproven", 0,
    "The client was asked to prove its address first (Retry), as many handshakes were under way.",
    Fault.US,
)  # fmt: skip
OVERLOAD_IDLE = Reason(
    Stage.CONNECTION, "overload_idle", 0,
    "The connection was idle while resources were running out.", Fault.US, h3_error=H3_NO_ERROR,
)  # fmt: skip
OVERLOAD_UNPROVEN = Reason(
    Stage.CONNECTION, "overload_unproven", 0,
    "The client was asked to prove its address first (Retry), as resources were running out.",
    Fault.US,
)  # fmt: skip
OVERLOAD_REFUSED = Reason(
    Stage.CONNECTION, "overload_refused", 0,
    "No connections were taken while resources were running out.", Fault.US,
)  # fmt: skip
OVERLOAD_RESET = Reason(
    Stage.CONNECTION, "overload_reset", 503,
    "The request held more memory than others while memory was running out.", Fault.US,
    h3_error=H3_REQUEST_CANCELLED,
)  # fmt: skip
DRAINING = Reason(
    Stage.CONNECTION, "draining", 503, "This worker is shutting down.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
DRAIN_TIMEOUT = Reason(
    Stage.CONNECTION, "drain_timeout", 503, "The exchange outlived the shutdown drain.", Fault.US
)
REMOVED = Reason(
    Stage.CONNECTION, "removed", 503,
    "A change removed the listener or the backend, and the time to finish was over.", Fault.US,
)  # fmt: skip
GENERATION_MISSING = Reason(
    Stage.CONNECTION, "generation_missing", 503,
    "This worker does not have the configuration in force, and is replaced.", Fault.US,
    h3_error=H3_REQUEST_REJECTED,
)  # fmt: skip
IDLE_TIMEOUT = Reason(
    Stage.CONNECTION, "idle_timeout", 0, "The connection was idle for too long.", Fault.NOBODY,
    h3_error=H3_NO_ERROR,
)  # fmt: skip
HANDSHAKE_TIMEOUT = Reason(
    Stage.CONNECTION, "handshake_timeout", 0, "The handshake did not complete in time.",
    Fault.CLIENT,
)  # fmt: skip
HANDSHAKE_FAILED = Reason(
    Stage.CONNECTION, "handshake_failed", 0, "The handshake failed.", Fault.CLIENT
)
CLIENT_CERTIFICATE_INVALID = Reason(
    Stage.CONNECTION, "client_certificate_invalid", 0,
    "The client's certificate is missing or could not be verified.", Fault.CLIENT,
)  # fmt: skip
PROXY_HEADER_INVALID = Reason(
    Stage.CONNECTION, "proxy_header_invalid", 0,
    "A trusted proxy sent no PROXY header, or one that is malformed.", Fault.CLIENT,
)  # fmt: skip
PROXY_HEADER_UNTRUSTED = Reason(
    Stage.CONNECTION, "proxy_header_untrusted", 0,
    "Connections are taken from trusted proxies only, and this was from none.", Fault.CLIENT,
)  # fmt: skip
BAD_PACKET = Reason(
    Stage.CONNECTION, "bad_packet", 0, "A datagram is not a valid QUIC packet.", Fault.CLIENT
)
UNKNOWN_CONNECTION = Reason(
    Stage.CONNECTION, "unknown_connection", 0, "A packet belongs to no connection.", Fault.CLIENT
)
UNSUPPORTED_VERSION = Reason(
    Stage.CONNECTION, "unsupported_version", 0,
    "A packet is of a QUIC version that is not spoken here.", Fault.CLIENT,
)  # fmt: skip
FORGED_PACKET = Reason(
    Stage.CONNECTION, "forged_packet", 0,
    "A packet of a connection is not authentic: forged, or changed on its way.", Fault.CLIENT,
)  # fmt: skip
UNDECRYPTABLE_PACKET = Reason(
    Stage.CONNECTION, "undecryptable_packet", 0,
    "A packet of a connection came when there were no keys for it any more, or too long before.",
    Fault.NOBODY,
)  # fmt: skip
ADDRESS_UNPROVEN = Reason(
    Stage.CONNECTION, "address_unproven", 0,
    "The client was asked to prove its address first (Retry).", Fault.NOBODY,
)  # fmt: skip
INVALID_TOKEN = Reason(
    Stage.CONNECTION, "invalid_token", 0,
    "The token of a Retry is too old, was used before, or is for another address or connection.",
    Fault.CLIENT,
)  # fmt: skip
STATELESS_RESET_RATE = Reason(
    Stage.CONNECTION, "stateless_reset_rate", 0,
    "Packets that belong to no connection come too fast to be answered.", Fault.CLIENT,
)  # fmt: skip
CLIENT_GLITCHES = Reason(
    Stage.CONNECTION, "client_glitches", 0,
    "The client, or its source, was odd too often while Spooky was pressed.", Fault.CLIENT,
    h3_error=H3_EXCESSIVE_LOAD,
)  # fmt: skip
CLIENT_EXCESSIVE_LOAD = Reason(
    Stage.CONNECTION, "client_excessive_load", 0, "The client exceeded a protocol budget.",
    Fault.CLIENT, h3_error=H3_EXCESSIVE_LOAD,
)  # fmt: skip

# --- health: why a backend is ejected ---------------------------------------------------------
EJECTED_CONSECUTIVE_ERRORS = Reason(
    Stage.HEALTH, "consecutive_errors", 0, "The backend failed too many requests in a row.",
    Fault.UPSTREAM,
)  # fmt: skip
EJECTED_CONSECUTIVE_GATEWAY_ERRORS = Reason(
    Stage.HEALTH, "consecutive_gateway_errors", 0,
    "The backend did not answer, or as a gateway that cannot, too many times in a row.",
    Fault.UPSTREAM,
)  # fmt: skip
EJECTED_CIRCUIT_OPEN = Reason(
    Stage.HEALTH, "circuit_opened", 0, "The circuit breaker of the backend opened.", Fault.UPSTREAM
)
EJECTED_SUCCESS_RATE = Reason(
    Stage.HEALTH, "success_rate", 0,
    "The backend failed a larger share of its requests than the others of its upstream.",
    Fault.UPSTREAM,
)  # fmt: skip
EJECTED_LATENCY = Reason(
    Stage.HEALTH, "latency", 0,
    "The backend was much slower than the others of its upstream.", Fault.UPSTREAM,
)  # fmt: skip
