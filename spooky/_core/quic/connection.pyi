"""A QUIC connection without I/O: what its owner calls (RFC 9000, 9001, 9002, 9368, 9369)."""

from collections.abc import Callable, Sequence
from typing import Any

class Connection:
    """One QUIC connection; ``protocol/quic/native_session.py`` gives it its TLS and its words.

    What its owner calls is described by ``spooky.protocol.quic.session.QuicSession``.

    Arguments:
        is_client: Which role it has.
        parameters: What may be chosen about it.
        peer: Where packets go.
        now: Seconds.
        version: Of the first packet.
        peer_id: Where the first packets go: of a client's making for a client.
        make_connection_id: Makes the IDs by which the peer may address us.
        make_reset_token: Makes the stateless reset token of an ID; ``None`` for random ones.
    """

    handler: Any
    tls: Any
    parameters: Any
    is_client: bool
    established: bool
    terminated: bool
    draining: bool
    version: int
    original_version: int
    peer: Any
    @property
    def idle_timeout(self) -> float: ...
    @property
    def all_acknowledged(self) -> bool: ...
    @property
    def peer_stream_limit(self) -> int: ...
    def __init__(
        self,
        is_client: bool,
        parameters: Any,
        peer: Any,
        now: float,
        version: int | None,
        peer_id: bytes,
        make_connection_id: Callable[[], bytes],
        make_reset_token: Callable[[bytes], bytes] | None,
    ) -> None: ...
    def start_client(self, token: bytes) -> None:
        """Say the hello.

        Arguments:
            token: What the server gave us in an earlier connection; empty if it gave none.
        """

    def start_server(
        self,
        destination_id: bytes,
        original_destination_id: bytes,
        retry_source_id: bytes | None,
        validated: bool,
    ) -> None:
        """Wait for the hello.

        Arguments:
            destination_id: Where the client's first packet went.
            original_destination_id: Where the packet went that a Retry answered.
            retry_source_id: Where that Retry came from; ``None`` without one.
            validated: Whether the client is known to be at its address.
        """

    def on_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None:
        """Take a traffic secret from TLS."""

    def on_peer_parameters(self, encoded: bytes) -> bytes | None:
        """Take the peer's transport parameters from TLS; return ours, if we are the server."""

    def remember_parameters(self, encoded: bytes) -> None:
        """Take the transport parameters of an earlier connection, on which 0-RTT data relies."""

    def on_early_data_refused(self) -> None:
        """Learn from TLS that a client's 0-RTT data is not taken, before the handshake ends."""

    def on_handshake_complete(self) -> None:
        """Learn from TLS that the handshake is complete."""

    def receive(self, batch: Sequence[tuple[bytes, Any, int]], now: float) -> None: ...
    def flush(self, now: float) -> list[Any]: ...
    def deadline(self) -> float | None: ...
    def expire(self, now: float) -> None: ...
    def open_stream(self, unidirectional: bool) -> int | None: ...
    def send(self, stream_id: int, data: bytes, fin: bool) -> int: ...
    def consume(self, stream_id: int, count: int) -> None: ...
    def reset(self, stream_id: int, error_code: int) -> None: ...
    def stop_sending(self, stream_id: int, error_code: int) -> None: ...
    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None: ...
    def held(self) -> list[tuple[int, int]]: ...
    @property
    def acknowledged(self) -> int: ...
    def unacknowledged(self, stream_id: int) -> int: ...
    def is_held_up(self, stream_id: int) -> bool: ...
    def ping(self) -> None: ...
    def probe_path(self) -> None: ...
    def request_key_update(self) -> None:
        """Change the 1-RTT keys before the next packet that may (RFC 9001 section 6.1)."""

    def limit_sealing(self, packets: int) -> None:
        """Bear only so many more packets under each key, fewer than its AEAD; for tests."""

    def limit_forgeries(self, packets: int) -> None:
        """Bear only so many packets that do not authenticate, fewer than the AEAD; for tests."""

    def close(self, error_code: int, phrase: str, is_application: bool) -> None: ...
    def figures(self) -> tuple[int, int, int, float, int]: ...
    def take_dropped(self) -> tuple[int, ...] | None: ...
    def statistics(self) -> dict[str, Any]:
        """Return figures of the transport; times in seconds, sizes in bytes."""
