"""One side's streams without a connection: its parameters, its application and its frames."""

from dataclasses import dataclass, field

from spooky._core.quic.sent_packet import SentPacket
from spooky._core.quic.streams import Streams
from spooky.protocol.quic.limits import DEFAULT_LIMITS, Limits

PACKET = 1200

# RFC 9000 section 19.
RESET_STREAM = 0x04
STOP_SENDING = 0x05
STREAM = 0x08
MAX_DATA = 0x10
MAX_STREAM_DATA = 0x11
MAX_STREAMS_BIDI = 0x12
MAX_STREAMS_UNI = 0x13
DATA_BLOCKED = 0x14
STREAM_DATA_BLOCKED = 0x15
STREAMS_BLOCKED_BIDI = 0x16
STREAMS_BLOCKED_UNI = 0x17

KINDS = {
    RESET_STREAM: 3,
    STOP_SENDING: 2,
    MAX_DATA: 1,
    MAX_STREAM_DATA: 2,
    MAX_STREAMS_BIDI: 1,
    MAX_STREAMS_UNI: 1,
    DATA_BLOCKED: 1,
    STREAM_DATA_BLOCKED: 2,
    STREAMS_BLOCKED_BIDI: 1,
    STREAMS_BLOCKED_UNI: 1,
}
"""How many integers each of these frames has."""

Event = tuple[object, ...]


def varint(value: int) -> bytes:
    """Encode a variable-length integer (RFC 9000 section 16)."""
    for size, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * size - 2):
            return (prefix << (8 * size - 2) | value).to_bytes(size, "big")
    raise ValueError(value)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode one; return it and the position after it."""
    size = 1 << (data[position] >> 6)
    value = int.from_bytes(data[position : position + size], "big")
    return value & ((1 << (8 * size - 2)) - 1), position + size


def frame(*integers: int) -> bytes:
    """Encode a frame that is nothing but integers, its type included."""
    return b"".join(map(varint, integers))


def stream_frame(stream_id: int, offset: int, data: bytes = b"", fin: bool = False) -> bytes:
    """Encode a STREAM frame with all its fields."""
    return frame(STREAM | 0x06 | fin, stream_id, offset, len(data)) + data


def frames_of(payload: bytes) -> list[tuple[object, ...]]:
    """Decode a payload: integers of each frame; for STREAM its ID, offset, data and end."""
    result: list[tuple[object, ...]] = []
    position = 0
    while position < len(payload):
        kind, position = read_varint(payload, position)
        if not STREAM <= kind < MAX_DATA:
            integers = [kind]
            for _ in range(KINDS[kind]):
                value, position = read_varint(payload, position)
                integers.append(value)
            result.append(tuple(integers))
            continue
        stream_id, position = read_varint(payload, position)
        offset, position = read_varint(payload, position) if kind & 4 else (0, position)
        size, position = (
            read_varint(payload, position) if kind & 2 else (len(payload) - position, position)
        )
        assert position + size <= len(payload)
        data = payload[position : position + size]
        position += size
        result.append((STREAM, stream_id, offset, data, bool(kind & 1)))
    return result


class Account:
    """Bytes by which windows may grow."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.spent = 0

    def grow(self, count: int) -> bool:
        """Spend some if there are as many left."""
        if self.spent + count > self.limit:
            return False
        self.spent += count
        return True

    def give_back(self, count: int) -> None:
        """Return some."""
        self.spent -= count


@dataclass
class Parameters:
    """What ``Streams`` takes of ``EndpointParameters``."""

    stream_window: int = 256 * 1024
    stream_window_max: int = 6 * 1024 * 1024
    connection_window: int = 1024 * 1024
    connection_window_max: int = 15 * 1024 * 1024
    account: Account = field(default_factory=Account)
    max_streams_bidi: int = 128
    max_streams_uni: int = 16
    limits: Limits = DEFAULT_LIMITS


class Recorder:
    """An application that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Remember data."""
        assert data or fin
        self.events.append(("data", stream_id, data, fin))

    def on_stream_reset(self, stream_id: int, error_code: int) -> None:
        """Remember a reset."""
        self.events.append(("reset", stream_id, error_code))

    def on_stop_sending(self, stream_id: int, error_code: int) -> None:
        """Remember that the peer wants no more."""
        self.events.append(("stop", stream_id, error_code))

    def on_stream_writable(self, stream_id: int) -> None:
        """Remember that a stream accepts more."""
        self.events.append(("writable", stream_id))

    def on_streams_available(self) -> None:
        """Remember that streams may be opened."""
        self.events.append(("streams",))


class Party:
    """One side.

    Arguments:
        client: Which.
        parameters: Its own.
        peer: The other's, whose limits it knows.
    """

    def __init__(
        self,
        client: bool = False,
        parameters: Parameters | None = None,
        peer: Parameters | None = None,
        application: Recorder | None = None,
    ) -> None:
        self.parameters = parameters or Parameters()
        self.peer = peer or Parameters()
        self.application = application or Recorder()
        self.streams = Streams(client, self.parameters)
        self.streams.handler = self.application
        self.streams.smoothed_rtt = 0.05
        self.streams.congestion_window = 10 * PACKET
        self.learn_limits(self.peer)

    def learn_limits(self, peer: Parameters) -> None:
        """Learn the peer's transport parameters."""
        self.streams.set_peer_limits(
            peer.connection_window,
            peer.stream_window,
            peer.stream_window,
            peer.stream_window,
            peer.max_streams_bidi,
            peer.max_streams_uni,
        )

    @property
    def events(self) -> list[Event]:
        """What the application was told since this was asked last."""
        events, self.application.events = self.application.events, []
        return events

    def receive(self, *frames: bytes) -> list[Event]:
        """Take frames as one batch; return what the application was told."""
        for each in frames:
            assert self.streams.receive_frame(each) == len(each)
        self.streams.end_batch()
        return self.events

    def receive_payload(self, payload: bytes) -> None:
        """Take all frames of a packet."""
        while payload:
            payload = payload[self.streams.receive_frame(payload) :]

    def write(self, size: int = PACKET) -> tuple[list[tuple[object, ...]], SentPacket]:
        """Write one packet; return its frames, and the packet."""
        packet = SentPacket()
        return frames_of(self.streams.written(size, packet)), packet

    def frames(self, size: int = PACKET) -> list[tuple[object, ...]]:
        """Write packets until there is nothing more, and return all their frames."""
        result = []
        while self.streams.wants_to_write():
            frames, _ = self.write(size)
            assert frames
            result += frames
        return result

    def write_all(self, size: int = PACKET) -> list[SentPacket]:
        """Write packets until there is nothing more, and return them."""
        result = []
        while self.streams.wants_to_write():
            frames, packet = self.write(size)
            assert frames
            result.append(packet)
        return result

    def acknowledge_all(self) -> None:
        """Write everything, and have it acknowledged."""
        for packet in self.write_all():
            self.streams.acked(packet)
