"""A walk through the streams of a server, which a fuzzer chooses step by step."""

from typing import Any

from spooky._core.quic.errors import QuicError
from spooky._core.quic.sent_packet import SentPacket
from tests.core.quic.stream_party import Parameters, Party, Recorder, frame, stream_frame

WINDOW = 4096
CONNECTION_WINDOW = 16_384
STREAMS = 4
STEPS_MAX = 200


class Application(Recorder):
    """An application that answers upcalls by calls, as the input says."""

    def __init__(self) -> None:
        super().__init__()
        self.party: Party
        self.act = 0
        self.delivered: dict[int, int] = {}
        self.over: set[int] = set()

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Count it: nothing comes after the end."""
        assert stream_id not in self.over
        self.delivered[stream_id] = self.delivered.get(stream_id, 0) + len(data)
        if fin:
            self.over.add(stream_id)
        streams = self.party.streams
        if self.act & 1:
            streams.consume(stream_id, len(data))
        if self.act & 2:
            streams.reset(stream_id, 1)
        if self.act & 4:
            streams.stop_sending(stream_id, 2)
        if self.act & 8:
            streams.send(stream_id, data, fin)

    def on_stream_reset(self, stream_id: int, error_code: int) -> None:
        """Nothing comes after it."""
        assert stream_id not in self.over
        self.over.add(stream_id)


def step(party: Party, sent: list[SentPacket], data: Any) -> None:
    """Do one thing."""
    streams = party.streams
    what = data.ConsumeIntInRange(0, 9)
    stream_id = data.ConsumeIntInRange(0, 4 * STREAMS + 3)
    number = data.ConsumeIntInRange(0, 2 * WINDOW)
    if what == 0:
        content = bytes(data.ConsumeIntInRange(0, 1200))
        streams.receive_frame(stream_frame(stream_id, number, content, data.ConsumeBool()))
    elif what == 1:
        kind = data.PickValueInList([0x04, 0x05, *range(0x10, 0x18)])
        streams.receive_frame(frame(kind, stream_id, number, data.ConsumeIntInRange(0, 5)))
    elif what == 2:
        streams.receive_frame(b"\x08" + data.ConsumeBytes(20))
    elif what == 3:
        streams.consume(stream_id, number)
    elif what == 4:
        streams.send(stream_id, bytes(number), data.ConsumeBool())
    elif what == 5:
        streams.reset(stream_id, number)
    elif what == 6:
        streams.stop_sending(stream_id, number)
    elif what == 7:
        packet = SentPacket()
        size = data.ConsumeIntInRange(1, 1200)
        assert len(streams.written(size, packet)) <= size
        sent.append(packet)
    elif sent:
        packet = sent.pop(number % len(sent))
        (streams.acked if what == 8 else streams.lost)(packet)


def walk(provider: Any) -> None:
    """Take frames in any order, with calls of the application between them, and close.

    Arguments:
        provider: An ``atheris.FuzzedDataProvider``, which chooses.
    """
    own = Parameters(
        stream_window=WINDOW,
        stream_window_max=WINDOW,
        connection_window=CONNECTION_WINDOW,
        connection_window_max=CONNECTION_WINDOW,
        max_streams_bidi=STREAMS,
        max_streams_uni=STREAMS,
    )
    application = Application()
    party = Party(parameters=own, application=application)
    application.party = party
    sent: list[SentPacket] = []
    try:
        for _ in range(STEPS_MAX):
            if not provider.remaining_bytes():
                break
            application.act = provider.ConsumeIntInRange(0, 15)
            step(party, sent, provider)
            if provider.ConsumeBool():
                party.streams.end_batch()
            assert party.streams.gaps >= 0
            assert sum(application.delivered.values()) <= party.streams.received
    except QuicError:
        pass
    party.streams.shut()
    for packet in sent:
        party.streams.lost(packet)
    assert party.streams.buffered == party.streams.gaps == party.streams.control_count == 0
    assert party.streams.stream_ids == []
    assert not party.streams.wants_to_write()
    assert own.account.spent == 0
