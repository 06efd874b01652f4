"""Whatever bytes come: no exception, no upcall out of order, no credit beyond what came."""

from hypothesis import given, settings
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky.protocol.h3.limits import Limits
from tests.protocol.h3.peers import (
    CONTROL,
    DECODER,
    ENCODER,
    GET,
    OK,
    OTHER,
    PEER_CLOSED,
    POST,
    REQUEST,
    SERVER_CONTROL,
    SERVER_OTHER,
    FakeQuic,
    Recorder,
    block,
    control,
    data,
    headers,
    make_client,
    make_server,
)

SMALL = Limits(max_headers_count=10, max_headers_bytes=200, max_useless_frames=20)

VARINTS = st.integers(0, 20) | st.integers(0, 2**62 - 1)
FRAMES = st.one_of(
    st.sampled_from([
        headers(GET), headers(POST), headers(OK), headers([(b":status", b"103")]),
        headers([(b"x-t", b"1")]), headers([*POST, (b"content-length", b"4")]),
        headers([*OK, (b"content-length", b"4")]), headers([*GET, (b"x", b"\xff" * 300)]),
        headers([(b"x", b"y")] * 30), data(b""), data(b"ab"), data(b"abcd"), control(), b"",
        encode_varint(2), encode_varint(3), b"\x20", b"\x40", encode_frame(0x07, b"\0"),
    ]),
    st.builds(encode_frame, VARINTS, st.binary(max_size=20)),
    st.builds(lambda fields: encode_frame(1, block(fields)), st.lists(st.tuples(
        st.binary(min_size=1, max_size=8), st.binary(max_size=8)), max_size=12)),
    st.binary(max_size=20),
)  # fmt: skip

WIRE = st.lists(FRAMES, max_size=6).map(b"".join)

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), WIRE, st.booleans()),
        st.tuples(st.just("cut"), WIRE, st.integers(1, 40)),
        st.tuples(st.sampled_from(["reset", "stop"]), st.just(b""), VARINTS),
        st.tuples(st.sampled_from(["send", "end", "trailers", "consume"]), WIRE, st.booleans()),
        st.tuples(st.sampled_from(["stop_receiving", "abort", "writable"]), WIRE, st.booleans()),
    ),
    max_size=12,
)


class Peer:
    """Feeds a session as QUIC would: nothing on a stream after its end, its reset, or our stop."""

    def __init__(self, quic: FakeQuic) -> None:
        self.quic = quic
        self.over: set[int] = set()
        self.stopped: set[int] = set()

    def data(self, stream_id: int, payload: bytes, fin: bool) -> None:
        if stream_id in self.over or not (payload or fin):
            return
        if fin:
            self.over.add(stream_id)
        if stream_id not in self.quic.stops:
            self.quic.deliver(stream_id, payload, fin)

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id not in self.over:
            self.over.add(stream_id)
            self.quic.handler.on_stream_reset(stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        ours_ended = stream_id in self.quic.ended or stream_id in self.quic.resets
        if stream_id not in self.stopped and not ours_ended:
            self.stopped.add(stream_id)
            if self.quic.closed is None:
                self.quic.resets[stream_id] = code
            self.quic.handler.on_stop_sending(stream_id, code)


def call(recorder: Recorder, action: str, payload: bytes, flag: bool) -> None:
    """Make a downcall, in which no upcall may nest."""
    stream = recorder.stream
    assert stream is not None
    recorder.calling = True
    if action == "send":
        stream.send_data(payload, False)
    elif action == "end":
        stream.send_head(OK, False)
        stream.send_data(payload, True)
    elif action == "trailers":
        stream.send_trailers([(b"x", b"1")])
    elif action == "consume":
        stream.consume(len(payload))
    elif action == "stop_receiving":
        stream.stop_receiving()
    elif action == "abort":
        stream.reset(reasons.INTERNAL_ERROR)
    recorder.calling = False


def play(
    quic: FakeQuic,
    recorders: list[Recorder],
    peer: Peer,
    stream_id: int,
    action: tuple[str, bytes, int | bool],
    ended: set[int],
) -> None:
    kind, payload, argument = action
    if kind == "data":
        peer.data(stream_id, payload, bool(argument))
    elif kind == "cut":
        for start in range(0, len(payload), int(argument)):
            peer.data(stream_id, payload[start : start + int(argument)], False)
    elif kind == "reset":
        peer.reset(stream_id, int(argument))
    elif kind == "stop":
        peer.stop(stream_id, int(argument))
    elif kind == "writable":
        quic.taken = {key: len(sent) for key, sent in quic.sent.items()}
        refused, quic.refused = quic.refused, set()
        for key in refused:
            quic.handler.on_stream_writable(key)
    elif recorders and id(recorders[-1]) not in ended:
        if kind in ("end", "trailers"):
            ended.add(id(recorders[-1]))
        call(recorders[-1], kind, payload, bool(argument))


def assert_credit(quic: FakeQuic) -> None:
    for stream_id, delivered in quic.delivered.items():
        assert 0 <= quic.credited.get(stream_id, 0) <= delivered


STREAMS = st.sampled_from([REQUEST, REQUEST, 4, CONTROL, ENCODER, DECODER, OTHER])


@settings(max_examples=120)
@given(st.lists(st.tuples(STREAMS, ACTIONS), max_size=6), st.sampled_from([None, 0, 7]))
def test_servers_keep_the_contract(
    script: list[tuple[int, list[tuple[str, bytes, int | bool]]]], room: int | None
) -> None:
    server = make_server(SMALL)
    server.quic.room = room
    peer = Peer(server.quic)
    ended: set[int] = set()
    for stream_id, actions in script:
        for action in actions:
            if stream_id & 2 and action[0] == "stop":
                continue  # it is theirs
            play(server.quic, server.requests, peer, stream_id, action, ended)
            server.session.settle()
            assert_credit(server.quic)
    server.session.on_closed(PEER_CLOSED)
    assert server.session.active_streams == 0
    for request in server.requests:
        assert request.head is not None or request.reset is not None
        if request.head is None:
            assert [event[0] for event in request.events] == ["reset"]


@settings(max_examples=120)
@given(
    st.lists(
        st.tuples(st.sampled_from([REQUEST, REQUEST, SERVER_CONTROL, SERVER_OTHER]), ACTIONS),
        max_size=6,
    ),
    st.sampled_from([None, 0, 7]),
    st.booleans(),
)
def test_clients_keep_the_contract(
    script: list[tuple[int, list[tuple[str, bytes, int | bool]]]], room: int | None, end: bool
) -> None:
    client = make_client(SMALL)
    client.quic.room = room
    request = client.request(POST, end)
    peer = Peer(client.quic)
    ended: set[int] = {id(request)} if end else set()
    for stream_id, actions in script:
        for action in actions:
            if stream_id & 2 and action[0] == "stop":
                continue  # it is theirs
            play(client.quic, [request], peer, stream_id, action, ended)
            client.session.settle()
            assert_credit(client.quic)
    client.session.on_closed(PEER_CLOSED)
    assert client.session.active_streams == 0


@settings(max_examples=200)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5), st.booleans())
def test_bytes_mean_the_same_however_they_are_cut(
    wire: bytes, cuts: list[int], with_head: bool
) -> None:
    wire = (headers(POST) if with_head else b"") + wire
    whole, cut = make_server(SMALL), make_server(SMALL)
    whole.quic.deliver(REQUEST, wire, fin=True)
    edges = sorted(min(edge, len(wire)) for edge in cuts)
    for start, stop in zip([0, *edges], [*edges, len(wire)], strict=True):
        if stop > start:
            cut.quic.deliver(REQUEST, wire[start:stop])
    cut.quic.deliver(REQUEST, b"", fin=True)
    assert (whole.quic.closed or (0,))[0] == (cut.quic.closed or (0,))[0]
    assert [request.head for request in whole.requests] == [r.head for r in cut.requests]
    if whole.quic.closed is None:
        assert whole.quic.resets == cut.quic.resets
        assert [r.body for r in whole.requests] == [r.body for r in cut.requests]
        assert [r.reset for r in whole.requests] == [r.reset for r in cut.requests]
