"""A connection's table of streams, and the limits on it: how many, and how much data.

RFC 9000 sections 2.1, 4 and 19.
"""

from typing import Protocol

class _Account(Protocol):
    def grow(self, count: int) -> bool: ...
    def give_back(self, count: int) -> None: ...

class _Limits(Protocol):
    @property
    def stream_pieces(self) -> int: ...

class _Parameters(Protocol):
    @property
    def stream_window(self) -> int: ...
    @property
    def stream_window_max(self) -> int: ...
    @property
    def connection_window(self) -> int: ...
    @property
    def connection_window_max(self) -> int: ...
    @property
    def account(self) -> _Account: ...
    @property
    def max_streams_bidi(self) -> int: ...
    @property
    def max_streams_uni(self) -> int: ...
    @property
    def limits(self) -> _Limits: ...

class _Handler(Protocol):
    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None: ...
    def on_stream_reset(self, stream_id: int, error_code: int) -> None: ...
    def on_stop_sending(self, stream_id: int, error_code: int) -> None: ...
    def on_stream_writable(self, stream_id: int) -> None: ...
    def on_streams_available(self) -> None: ...

class StreamLimits:
    """The streams of a connection by their IDs, and what limits them.

    A stream is known by its ID from when it is opened until both its directions are over and all
    that was delivered of it is consumed.
    """

    handler: _Handler
    now: float
    smoothed_rtt: float
    congestion_window: int
    def __init__(self, is_client: bool, parameters: _Parameters) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def control_count(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def sent(self) -> int: ...
    @property
    def stream_ids(self) -> list[int]:
        """The IDs of the streams that are known."""

    def set_peer_limits(
        self,
        max_data: int,
        stream_data_bidi_local: int,
        stream_data_bidi_remote: int,
        stream_data_uni: int,
        streams_bidi: int,
        streams_uni: int,
    ) -> int:
        """Learn the peer's transport parameters, named alike; always returns 0.

        Those remembered for 0-RTT come first, and the later ones only raise them.
        """

    def open_stream(self, unidirectional: bool) -> int | None:
        """Return the ID of a new stream, or None while the peer's limit is reached."""
