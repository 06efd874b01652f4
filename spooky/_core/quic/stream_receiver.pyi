"""The receiving parts of a connection's streams (RFC 9000 sections 2.2, 3.2 and 4)."""

from spooky._core.quic.stream_control import StreamControl

class StreamReceiver(StreamControl):
    """What the peer sends on streams, put into order and given to the application."""

    @property
    def gaps(self) -> int: ...
    def consume(self, stream_id: int, count: int) -> int:
        """Credit delivered bytes of a stream back to the peer; always returns 0."""

    def stop_sending(self, stream_id: int, error_code: int) -> int:
        """Ask the peer to abandon its sending part; always returns 0.

        What still arrives is dropped and credited, without upcalls; what was delivered before
        still waits for :meth:`consume`.
        """
