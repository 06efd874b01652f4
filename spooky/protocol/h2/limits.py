"""What a peer may send; the same for both roles and both engines."""

from dataclasses import dataclass
from typing import Final, TypeAlias

Rate: TypeAlias = tuple[int, int]
"""A token bucket: how many at once, and how many more each second."""

FIELD_OVERHEAD_BYTES: Final = 32
"""What a field counts for beyond its name and value (RFC 9113 section 6.5.2)."""

ENGINE_HEADROOM: Final = 4
"""How many times larger than allowed a head may be and still reach the validator.

The validator answers 431. What is larger still ends the connection: both engines stop decoding
there, and without the rest the compression state is lost (RFC 9113 section 4.3).
"""

SERVER_CONNECTION_WINDOW_BYTES: Final = 1024 * 1024
"""What a client may have outstanding on all its streams together: four stalled uploads.

A client has its connection for itself, so it is its own uploads that wait for each other.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may send, and the windows it is given.

    Attributes:
        max_headers_count: Fields in a head or in trailers, as the validator behind counts them.
        max_headers_bytes: Name and value bytes of a head or of trailers, likewise.
        max_concurrent_streams: Streams open at once: advertised and enforced by a server, and
            what a client opens at most whatever its peer allows (attack 9).
        stream_window_bytes: Body bytes of a stream that may be outstanding until consumed.
        connection_window_bytes: The same for all streams of a connection together. If not given,
            ``SERVER_CONNECTION_WINDOW_BYTES`` for a server, and a window for every stream for a
            client: on a connection to a backend they belong to different clients, and those who
            read slowly must not stall the others. Exchanges are bounded by their own windows.
        max_informational: 1xx heads before a response (attack 35).
        max_continuations: CONTINUATION frames of a head, empty ones included (attack 3). The
            largest head that reaches the validator fills five frames.
        max_settings: Entries of a SETTINGS frame (attack 6).
        max_pending_acks: SETTINGS and PING answers that wait to be sent (attacks 6 and 7).
        peer_resets: RST_STREAM frames received (attack 1), nghttp2's default.
        provoked_resets: Streams that the engine resets because the peer broke the protocol on
            them (attack 2); worth as much work to an attacker as ``peer_resets``.
        settings_frames: SETTINGS frames received (attack 6); a peer sends a few in its life.
        control_frames: All other frames that carry neither heads nor bodies received (attack 7),
            beyond those that the traffic earns: see :mod:`.gate`.
        empty_data_frames: DATA frames received that carry nothing and end nothing (attack 7).
    """

    max_headers_count: int = 128
    max_headers_bytes: int = 16_384
    max_concurrent_streams: int = 100
    stream_window_bytes: int = 256 * 1024
    connection_window_bytes: int | None = None
    max_informational: int = 32
    max_continuations: int = 16
    max_settings: int = 32
    max_pending_acks: int = 1_000
    peer_resets: Rate = (1_000, 33)
    provoked_resets: Rate = (1_000, 33)
    settings_frames: Rate = (100, 1)
    control_frames: Rate = (1_000, 100)
    empty_data_frames: Rate = (100, 10)

    def connection_window(self, client: bool) -> int:
        """Return the connection window of a role, bytes."""
        if self.connection_window_bytes is not None:
            return self.connection_window_bytes
        if client:
            return self.max_concurrent_streams * self.stream_window_bytes
        return SERVER_CONNECTION_WINDOW_BYTES

    @property
    def advertised_header_list_bytes(self) -> int:
        """The largest head that the validator may accept, as SETTINGS counts it."""
        return self.max_headers_bytes + FIELD_OVERHEAD_BYTES * self.max_headers_count

    @property
    def engine_header_list_bytes(self) -> int:
        """The size from which on a head ends the connection, as SETTINGS counts it."""
        return ENGINE_HEADROOM * self.advertised_header_list_bytes

    @property
    def engine_header_count(self) -> int:
        """The number of fields from which on a head ends the connection."""
        return ENGINE_HEADROOM * self.max_headers_count


DEFAULT_LIMITS: Final = Limits()
