"""Responses come in the order that their client asked for (RFC 9218), over each pair of engines."""

from typing import Any

import pytest

from spooky._core.h3_frames import PRIORITY_UPDATE_REQUEST
from spooky._core.h3_wire import encode_frame, encode_varint
from spooky.protocol.quic.engines import Feature
from tests.protocol.h3.peers import GET, OK, Recorder
from tests.protocol.h3.test_h3_pair import Body, Sender
from tests.scenario.endpoints import Engines
from tests.scenario.test_http3 import Http3
from tests.simnet import Link

SIZE = 600_000

# Narrow, so that what is sent first matters: a download takes two seconds.
NARROW = Link(latency=0.02, rate=300_000, queue=30_000)

pytestmark = pytest.mark.needs(Feature.PRIORITIES, of="server")


class Download(Sender):
    """Answers with a body, and the priority that its request's path names, if any."""

    def on_head(self, fields: list[Any], end: bool) -> None:
        super().on_head(fields, end)
        assert self.stream is not None
        named = dict(fields)[b":path"][1:]
        self.stream.send_head([*OK, (b"priority", named)] if named else OK, False)
        self.sender = Body(self.stream, b"x" * SIZE, 16_384, trailers=False)
        self.sender.send()


class Downloads(Http3):
    """Downloads that begin at once."""

    def __init__(self, engines: Engines) -> None:
        super().__init__(engines, link=NARROW)
        self.establish()
        self.kind = Download

    def fetch(self, priority: bytes | None = None, answer: bytes = b"/") -> Recorder:
        """Ask for one."""
        request = Recorder()
        request.stream = self.http3.open(request)
        fields = [*GET[:-1], (b":path", answer)]
        if priority is not None:
            fields.append((b"priority", priority))
        request.stream.send_head(fields, True)
        return request

    def update(self, stream_id: int, value: bytes) -> None:
        """Send a PRIORITY_UPDATE frame."""
        payload = encode_varint(stream_id) + value
        self.http3._send_control(encode_frame(PRIORITY_UPDATE_REQUEST, payload))
        self.http3.wake()

    def wait_for(self, request: Recorder) -> None:
        """Wait for the end of one."""
        assert self.run(lambda: request.ended, 60)
        assert len(request.body) == SIZE


def test_two_downloads_end_in_the_order_of_their_urgency(engines: Engines) -> None:
    pair = Downloads(engines)
    later, sooner = pair.fetch(b"u=5"), pair.fetch(b"u=1")
    pair.wait_for(sooner)
    assert len(later.body) < SIZE / 2
    pair.wait_for(later)
    pair.assert_clean()


def test_downloads_of_one_urgency_come_one_after_the_other(engines: Engines) -> None:
    pair = Downloads(engines)
    first, second = pair.fetch(b"u=3"), pair.fetch(b"u=3")
    pair.wait_for(first)
    assert len(second.body) < SIZE / 4
    pair.wait_for(second)


@pytest.mark.parametrize("priority", [b"u=2, i", None])
def test_incremental_downloads_and_those_without_a_signal_share(
    engines: Engines, priority: bytes | None
) -> None:
    pair = Downloads(engines)
    requests = [pair.fetch(priority) for _ in range(3)]
    assert pair.run(lambda: len(requests[0].body) > SIZE / 2, 60)
    assert all(SIZE / 4 < len(request.body) < SIZE for request in requests)


def test_an_update_in_the_middle_changes_the_order(engines: Engines) -> None:
    pair = Downloads(engines)
    first, second = pair.fetch(b"u=3"), pair.fetch(b"u=3")
    assert pair.run(lambda: len(first.body) > SIZE / 10, 60)
    pair.update(4, b"u=0")
    pair.wait_for(second)
    assert len(first.body) < SIZE
    pair.wait_for(first)


def test_an_update_ahead_of_its_request_counts(engines: Engines) -> None:
    pair = Downloads(engines)
    pair.update(4, b"u=0")
    pair.run(seconds=0.2)
    first, second = pair.fetch(b"u=3"), pair.fetch(b"u=6")
    pair.wait_for(second)
    assert len(first.body) < SIZE / 2


def test_a_backend_can_put_its_response_first(engines: Engines) -> None:
    pair = Downloads(engines)
    first, second = pair.fetch(b"u=3"), pair.fetch(b"u=3", b"/u=0")
    pair.wait_for(second)
    assert len(first.body) < SIZE / 2


def test_a_late_urgent_download_passes_many_that_filled_the_buffers(engines: Engines) -> None:
    pair = Downloads(engines)
    others = [pair.fetch(b"u=6, i") for _ in range(8)]
    assert pair.run(lambda: len(others[0].body) > SIZE / 20, 60)
    urgent = pair.fetch(b"u=0")
    before = sum(len(request.body) for request in others)
    pair.wait_for(urgent)
    passed = sum(len(request.body) for request in others) - before
    assert passed < SIZE / 2
