"""What a peer may send before it is refused; the same for both roles."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Engine: TypeAlias = Literal["httptools", "h11"]

WINDOW_BYTES: Final = 64 * 1024
"""Body bytes delivered and not yet credited at which reading stops; it resumes at half."""

LINGER_BYTES: Final = 1024 * 1024
"""How much of an unwanted request body is read and dropped.

A socket closed with unread bytes in it resets the connection, and the reset may overtake the
response. This is more than most clients send before they see that there is one.
"""

LINGER_SECONDS: Final = 10.0
"""How long an unwanted request body may take after the response, from its first bytes on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message head, a trailer section and a connection may be.

    Attributes:
        max_headers_count: Field lines in a head or in trailers.
        max_headers_bytes: Bytes of a head or of trailers as they are on the wire, start line and
            line ends included.
        max_request_line_bytes: Bytes of a request line; longer is answered 414
            (RFC 9112 section 3).
        max_pipelined: Requests served behind the first out of one read; the connection closes
            after the last of them. They cost a client a few bytes each, and answering them all at
            once would keep the worker from its other connections (attack 35).
        max_informational: 1xx heads before a response (attack 35); two are seen in practice.
        engine: Which library parses field sections; ``None`` for the build's own: httptools when
            compiled, h11 when pure.
    """

    max_headers_count: int = 128
    max_headers_bytes: int = 16384
    max_request_line_bytes: int = 8192
    max_pipelined: int = 100
    max_informational: int = 16
    engine: Engine | None = None


DEFAULT_LIMITS: Final = Limits()
