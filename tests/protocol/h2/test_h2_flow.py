"""Credit follows consumption, queues are bounded, and streams take turns (RFC 9113 section 5.2)."""

import random
from collections import Counter

import pytest
from hyperframe.frame import DataFrame, WindowUpdateFrame

from spooky._core import reasons
from spooky._core.h2_limits import (
    BACKLOG_FLOOR_BYTES,
    CONNECTION_BACKLOG_BYTES,
    QUANTUM_BYTES,
    STREAM_BACKLOG_BYTES,
    TRANSMIT_BYTES,
)
from spooky.protocol.h2.engine import EngineName
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from tests.protocol.h2.peers import (
    ENGINE_PAIRS,
    ENGINES,
    GET,
    OK,
    POST,
    ClientEnd,
    Feeder,
    RawPeer,
    Recorder,
    ServerEnd,
    data,
    of_type,
    parse_frames,
    pipe,
    raw_client,
    raw_server,
    rst_stream,
    settings,
    window_update,
)

STREAM_WINDOW = DEFAULT_LIMITS.stream_window_bytes
CONNECTION_WINDOW = DEFAULT_LIMITS.connection_window(client=False)
MIB = 1024 * 1024
PIECE = 16_384
ROUNDS = 4 * CONNECTION_WINDOW // PIECE

pairs = pytest.mark.parametrize(("client", "server"), ENGINE_PAIRS)
engines = pytest.mark.parametrize("engine", ENGINES)


def credit_left(peer_frames: list[object], sent: int) -> int:
    """Return what the connection's window still allows, after ``sent`` bytes."""
    updates = [
        frame for frame in peer_frames
        if isinstance(frame, WindowUpdateFrame) and frame.stream_id == 0
    ]  # fmt: skip
    return CONNECTION_WINDOW - sent + sum(frame.window_increment for frame in updates)


# --- receiving: what is not consumed is not credited ----------------------------------------------


@pairs
@pytest.mark.parametrize("seed", range(2))
def test_an_upload_nobody_consumes_stops_at_the_window(
    client: EngineName, server: EngineName, seed: int
) -> None:
    joined = pipe(client, server, seed=seed, consumes=False)
    body = random.Random(seed).randbytes(3 * MIB)
    feeder = Feeder(joined.client.request(POST, end=False), body)
    joined.run()
    (request,) = joined.server.requests
    assert len(request.body) == STREAM_WINDOW
    assert feeder.sent <= STREAM_WINDOW + STREAM_BACKLOG_BYTES + PIECE

    consumed = 0
    while consumed < len(body):
        amount = min(70_000, len(request.body) - consumed)
        request.consume(amount)
        consumed += amount
        joined.run()
        assert len(request.body) - consumed <= STREAM_WINDOW
    assert request.body == body
    assert request.ended


@pairs
def test_a_download_nobody_consumes_stops_at_the_window(
    client: EngineName, server: EngineName
) -> None:
    def answer(recorder: Recorder, upcall: str) -> None:
        if upcall == "head":
            recorder.send_head(OK)
            Feeder(recorder, bytes(3 * MIB))

    joined = pipe(client, server, hook=answer)
    response = joined.client.request(GET, consumes=False)
    joined.run()
    assert len(response.body) == STREAM_WINDOW
    response.consume(STREAM_WINDOW)
    joined.run()
    assert len(response.body) == 2 * STREAM_WINDOW


@pairs
def test_streams_nobody_consumes_stop_at_the_connection_window(
    client: EngineName, server: EngineName
) -> None:
    joined = pipe(client, server, consumes=False)
    for _ in range(10):
        Feeder(joined.client.request(POST, end=False), bytes(STREAM_WINDOW))
    joined.run()
    received = [len(request.body) for request in joined.server.requests]
    assert sum(received) == CONNECTION_WINDOW
    consumed = 0
    while consumed < 10 * STREAM_WINDOW:
        for index, request in enumerate(joined.server.requests):
            request.consume(received[index])
        consumed += sum(received)
        before = [len(request.body) for request in joined.server.requests]
        joined.run()
        received = [
            len(request.body) - size
            for request, size in zip(joined.server.requests, before, strict=True)
        ]
        # The rest of what was consumed is credited together with more (half a window at least).
        left = 10 * STREAM_WINDOW - consumed
        assert min(left, CONNECTION_WINDOW // 2) <= sum(received) <= CONNECTION_WINDOW


@engines
def test_responses_nobody_reads_do_not_stall_the_others(engine: EngineName) -> None:
    """On a connection to a backend the streams belong to different clients."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    responses = [end.request(consumes=False) for _ in range(100)]
    peer.take()
    for index in range(99):
        stream_id = 2 * index + 1
        peer.send(peer.headers(stream_id, OK))
        peer.send(*(data(stream_id, bytes(PIECE)) for _ in range(STREAM_WINDOW // PIECE)))
    responses[99].consumes = True
    peer.send(peer.headers(199, OK), data(199, bytes(PIECE), end=True))
    assert responses[99].ended
    assert not end.session.closed


# --- receiving: what nobody will consume is credited all the same ---------------------------------


@engines
@pytest.mark.parametrize(
    "how",
    [
        "reset",
        "peer resets",
        "stop",
        "stop after the end",
        "mid-frame",
        "after the reset",
        "after the stop",
        "reset in the same read",
    ],
)
def test_abandoned_uploads_do_not_starve_the_connection(engine: EngineName, how: str) -> None:
    """Each round leaves a frame that nobody consumes; together four connection windows."""
    source = random.Random(1)
    end = ServerEnd(engine, consumes=False)
    peer = raw_client(end)
    frames: list[object] = []
    for index in range(ROUNDS):
        peer.now += 1.0
        stream_id = 2 * index + 1
        frame = data(stream_id, bytes(PIECE), end=how == "stop after the end")
        if how == "mid-frame":
            # What ngh2 0.3.0 forgets to credit when it sees a part before the reset.
            cut = source.randrange(10, len(frame))
            peer.send(peer.headers(stream_id, POST), frame[:cut])
            end.requests[-1].reset(reasons.REQUEST_TIMEOUT)
            frames += peer.take()
            peer.send(frame[cut:])
        elif how == "after the reset":
            peer.send(peer.headers(stream_id, POST))
            end.requests[-1].reset(reasons.REQUEST_TIMEOUT)
            peer.send(frame[:])
        elif how == "after the stop":
            peer.send(peer.headers(stream_id, POST))
            end.requests[-1].stop_receiving()
            peer.send(frame)
            end.requests[-1].send_head(OK, end=True)
        elif how == "reset in the same read":
            end.hook = lambda recorder, _: recorder.reset(reasons.BAD_PATH)
            peer.send(peer.headers(stream_id, POST), frame)
        elif how == "never consumed":
            peer.send(peer.headers(stream_id, POST), frame[:4] + b"\1" + frame[5:])
            end.requests[-1].send_head(OK, end=True)
        elif how == "peer resets":
            peer.send(peer.headers(stream_id, POST), frame)
            peer.send(rst_stream(stream_id))
        else:
            peer.send(peer.headers(stream_id, POST), frame)
            if how == "reset":
                end.requests[-1].reset(reasons.REQUEST_TIMEOUT)
            else:
                end.requests[-1].stop_receiving()
                end.requests[-1].send_head(OK, end=True)
        frames += peer.take()
        assert credit_left(frames, (index + 1) * PIECE) >= PIECE
    assert not end.session.closed
    assert end.session.active_streams == 0


@engines
@pytest.mark.parametrize("how", ["reset", "never consumed", "stops its request"])
def test_abandoned_downloads_do_not_starve_the_connection(engine: EngineName, how: str) -> None:
    source = random.Random(2)
    end = ClientEnd(engine, limits=Limits(connection_window_bytes=CONNECTION_WINDOW))
    peer = raw_server(end)
    frames: list[object] = []
    for index in range(ROUNDS):
        peer.now += 1.0
        stream_id = 2 * index + 1
        response = end.request(POST, end=how == "never consumed", consumes=False)
        frames += peer.take()
        frame = data(stream_id, bytes(PIECE), end=how != "reset")
        if how == "reset":
            cut = source.randrange(0, len(frame) + 1)
            peer.send(peer.headers(stream_id, OK), frame[:cut])
            response.reset(reasons.CLIENT_RESET)
            frames += peer.take()
            peer.send(frame[cut:])
        else:
            peer.send(peer.headers(stream_id, OK), frame)
            if how == "stops its request":
                peer.send(rst_stream(stream_id, 0))
        frames += peer.take()
        assert credit_left(frames, (index + 1) * PIECE) >= PIECE
    assert end.session.active_streams == 0


@engines
def test_padding_is_credited_at_once(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    frames = []
    peer.send(peer.headers(1, POST))
    for index in range(5_000):
        peer.now += 1.0
        peer.send(data(1, b"x", padding=255))
        frames += peer.take()
        assert credit_left(list(frames), (index + 1) * 257) > 0
    assert len(end.requests[0].body) == 5_000


# --- sending: bounded queues ----------------------------------------------------------------------


def stalled_server(
    engine: EngineName, streams: int = 1
) -> tuple[ServerEnd, RawPeer, list[Recorder]]:
    """Return a server whose client opened streams and gave them no window."""
    end = ServerEnd(engine)
    peer = raw_client(end, {4: 0})
    peer.send(window_update(0, 10 * MIB))
    peer.send(*(peer.headers(2 * index + 1, GET, end=True) for index in range(streams)))
    for request in end.requests:
        request.send_head(OK)
    peer.take()
    return end, peer, end.requests


@engines
def test_a_stream_without_window_accepts_a_bounded_backlog(engine: EngineName) -> None:
    end, peer, (request,) = stalled_server(engine)
    accepted = 0
    while request.send_data(bytes(PIECE)):
        accepted += PIECE
        assert end.session.transmit() == b""
    assert accepted + PIECE == STREAM_BACKLOG_BYTES
    assert "writable" not in request.names
    # Credited at half, once.
    peer.send(window_update(1, STREAM_BACKLOG_BYTES // 2))
    peer.take()
    assert "writable" not in request.names
    peer.send(window_update(1, PIECE))
    peer.take()
    assert request.names.count("writable") == 1
    assert request.send_data(b"x")


@engines
def test_all_streams_together_accept_a_bounded_backlog(engine: EngineName) -> None:
    """What a client that stops reading can make us keep; and every stream has its floor."""
    count = 100
    _, _, requests = stalled_server(engine, count)
    total = 0
    for request in requests:
        accepted = 0
        while True:
            total += 2_000
            accepted += 2_000
            if not request.send_data(bytes(2_000)):
                break
        assert accepted >= BACKLOG_FLOOR_BYTES
    assert total <= CONNECTION_BACKLOG_BYTES + count * (BACKLOG_FLOOR_BYTES + 2_000)


@engines
def test_a_socket_that_is_full_holds_everything_back(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(peer.headers(1, GET, end=True))
    (request,) = end.requests
    end.session.set_transport_writable(False)
    request.send_head(OK)
    assert request.send_data(b"hello") is False
    assert end.session.transmit() == b""
    peer.send(peer.headers(3, GET, end=True))
    assert end.session.transmit() == b""
    assert "writable" not in request.names
    before = end.wake.count
    end.session.set_transport_writable(True)
    assert end.wake.count > before
    assert request.names.count("writable") == 1
    assert of_type(peer.take(), DataFrame)[0].data == b"hello"


@engines
def test_the_last_piece_is_accepted_when_its_stream_ends(engine: EngineName) -> None:
    """Else the bytes of a finished upload are never credited to the client they came from."""
    end = ClientEnd(engine)
    peer = raw_server(end)
    response = end.request(POST, end=False)
    assert response.send_data(bytes(STREAM_BACKLOG_BYTES + 60_000), end=True) is False
    peer.take()
    peer.send(peer.headers(1, OK, end=True))
    peer.send(window_update(0, MIB), window_update(1, MIB))
    peer.take()
    assert response.names == ["head", "writable"]
    assert end.session.active_streams == 0


@engines
def test_the_last_piece_is_accepted_when_its_stream_ends_in_a_crowd(engine: EngineName) -> None:
    """As long as the others hold all there is, half of nothing never comes."""
    end, peer, requests = stalled_server(engine, 6)
    for request in requests[:5]:
        request.send_data(bytes(STREAM_BACKLOG_BYTES))
    last = requests[5]
    assert last.send_data(bytes(2 * BACKLOG_FLOOR_BYTES), end=True) is False
    peer.send(window_update(11, 2 * BACKLOG_FLOOR_BYTES))
    assert "END_STREAM" in peer.take()[-1].flags
    assert last.names[-1] == "writable"
    assert end.session.active_streams == 5


@engines
def test_one_turn_of_many_streams_is_bounded(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(window_update(0, 10 * MIB))
    peer.send(*(peer.headers(2 * index + 1, GET, end=True) for index in range(100)))
    for request in end.requests:
        request.send_head(OK)
        request.send_data(bytes(PIECE), end=True)
    assert len(end.session.transmit()) <= TRANSMIT_BYTES + 100 * (10 + 9) + PIECE
    peer.take()
    assert end.session.active_streams == 0


@engines
def test_one_huge_piece_is_taken_and_sent_in_turns(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end, {4: 2**31 - 1})
    peer.send(window_update(0, 2**31 - 1 - 65_535), peer.headers(1, GET, end=True))
    (request,) = end.requests
    request.send_head(OK)
    body = random.Random(3).randbytes(5 * MIB)
    assert request.send_data(body, end=True) is False
    before = end.wake.count
    output = bytearray()
    while data_out := end.session.transmit():
        assert len(data_out) <= TRANSMIT_BYTES + 2 * QUANTUM_BYTES
        output += data_out
        if len(output) < len(body):
            assert end.wake.count > before, "there is more, and nobody was told"
        before = end.wake.count
    frames = of_type(parse_frames(bytes(output)), DataFrame)
    assert b"".join(frame.data for frame in frames) == body
    assert request.names == ["head", "writable"]


# --- sending: turns -------------------------------------------------------------------------------


def shares(frames: list[object]) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for frame in frames:
        if isinstance(frame, DataFrame):
            sizes[frame.stream_id] += len(frame.data)
    return sizes


@engines
def test_a_large_response_does_not_hold_up_the_others(engine: EngineName) -> None:
    """Left to itself nghttp2 sends all there is of the oldest stream first."""
    end = ServerEnd(engine)
    peer = raw_client(end, {4: 2**31 - 1})
    peer.send(window_update(0, 2**31 - 1 - 65_535))
    peer.send(*(peer.headers(2 * index + 1, GET, end=True) for index in range(40)))
    for request in end.requests:
        request.send_head(OK)
        Feeder(request, bytes(4 * MIB))
    frames: list[object] = []
    for _ in range(20):
        frames += parse_frames(end.session.transmit())
    sizes = shares(frames)
    assert len(sizes) == 40
    assert max(sizes.values()) <= 2 * min(sizes.values())


@engines
def test_uploads_share_a_small_connection_window(engine: EngineName) -> None:
    """Peers with the default window open it a little at a time; each opening goes round."""
    end = ClientEnd(engine)
    peer = raw_server(end, {4: 2**31 - 1})
    for _ in range(8):
        Feeder(end.request(POST, end=False), bytes(2 * MIB))
    frames = list(peer.take())
    assert sum(shares(list(frames)).values()) == 65_535
    for _ in range(64):
        peer.send(window_update(0, 32_768))
        frames += peer.take()
    sizes = shares(list(frames))
    assert sum(sizes.values()) == 65_535 + 64 * 32_768
    assert len(sizes) == 8
    assert max(sizes.values()) - min(sizes.values()) <= 2 * QUANTUM_BYTES


@engines
def test_a_stream_without_window_does_not_hold_up_the_others(engine: EngineName) -> None:
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(window_update(0, 10 * MIB))
    peer.send(peer.headers(1, GET, end=True), peer.headers(3, GET, end=True))
    for request in end.requests:
        request.send_head(OK)
        Feeder(request, bytes(MIB))
    frames = list(peer.take())
    for _ in range(20):
        peer.send(window_update(3, 65_535))
        frames += peer.take()
    sizes = shares(list(frames))
    assert sizes[1] == 65_535
    assert sizes[3] == MIB


@engines
def test_a_window_made_negative_by_settings_is_respected(engine: EngineName) -> None:
    """RFC 9113 section 6.9.2: wait until WINDOW_UPDATE makes it positive again."""
    end = ServerEnd(engine)
    peer = raw_client(end)
    peer.send(window_update(0, 10 * MIB), peer.headers(1, GET, end=True))
    (request,) = end.requests
    request.send_head(OK)
    Feeder(request, bytes(200_000))
    assert sum(shares(list(peer.take())).values()) == 65_535
    peer.send(settings({4: 0}), window_update(1, 60_000))
    assert not shares(list(peer.take()))
    peer.send(window_update(1, 6_000))
    assert sum(shares(list(peer.take())).values()) == 60_000 + 6_000 - 65_535
