"""The channel between a supervisor and a worker."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from spooky.runtime import channel as module
from spooky.runtime.channel import (
    INLINE_MAX_BYTES,
    PACKETS_PER_TURN,
    UNSENT_MAX,
    Channel,
    ChannelFullError,
)


class End:
    """One end, and what came in there."""

    def __init__(self, end: socket.socket) -> None:
        self.received: list[tuple[bytes, list[int]]] = []
        self.closed = 0
        self.channel = Channel(end, lambda *message: self.received.append(message), self.on_closed)

    def on_closed(self) -> None:
        self.closed += 1

    async def messages(self, count: int) -> list[tuple[bytes, list[int]]]:
        while len(self.received) < count:
            await asyncio.sleep(0.001)
        return self.received


def run(scenario: Callable[[End, End], Awaitable[None]]) -> None:
    async def bounded() -> None:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one, other = map(End, pair)
        async with asyncio.timeout(30):
            await scenario(one, other)
        one.channel.close()
        other.channel.close()

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(bounded())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 3_000_000])
def test_a_message_of_any_size_arrives_whole_and_in_order(size: int) -> None:
    async def scenario(one: End, other: End) -> None:
        message = os.urandom(size)
        one.channel.send(message)
        one.channel.send(b"next")
        assert await other.messages(2) == [(message, []), (b"next", [])]

    run(scenario)


def test_many_descriptors_arrive_in_order_with_a_long_message() -> None:
    async def scenario(one: End, other: End) -> None:
        files = [os.memfd_create(str(n)) for n in range(450)]
        for number, file in enumerate(files):
            os.write(file, b"%d" % number)
        one.channel.send(bytes(100_000), files)
        for file in files:
            os.close(file)
        ((message, received),) = await other.messages(1)
        assert message == bytes(100_000)
        assert [os.pread(file, 9, 0) for file in received] == [b"%d" % n for n in range(450)]
        assert not any(os.get_inheritable(file) for file in received)
        for file in received:
            os.close(file)

    run(scenario)


@pytest.mark.parametrize("fails", ["_memory_file", "_duplicates"])
def test_a_message_there_is_no_room_for_is_not_sent_in_part(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(27, "File too large")

    async def scenario(one: End, other: End) -> None:
        files = [os.memfd_create(str(n)) for n in range(450)]
        with monkeypatch.context() as patch:
            patch.setattr(module, fails, fail)
            with pytest.raises(OSError, match="too large"):
                one.channel.send(b"x" * (INLINE_MAX_BYTES + 1), files)
        one.channel.send(b"next", files[:1])
        ((message, descriptors),) = await other.messages(1)
        assert (message, len(descriptors)) == (b"next", 1)
        for descriptor in [*files, *descriptors]:
            os.close(descriptor)

    run(scenario)


def test_the_end_of_the_other_side_is_told_once_after_what_it_sent() -> None:
    async def scenario(one: End, other: End) -> None:
        for number in range(50):
            one.channel.send(b"%d" % number)
        one.channel.close()
        one.channel.close()
        one.channel.send(b"into the void")
        while not other.closed:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert [message for message, _ in other.received] == [b"%d" % n for n in range(50)]
        assert other.closed == 1

    run(scenario)


def test_who_reads_nothing_is_found_out_in_bounded_memory() -> None:
    async def scenario(one: End, other: End) -> None:
        sent = 0
        with contextlib.suppress(ChannelFullError):
            while sent < 100_000:
                one.channel.send(bytes(1000), [1])
                sent += 1
        assert UNSENT_MAX <= sent < 10_000
        assert len(await other.messages(sent)) == sent
        for _, descriptors in other.received:
            os.close(descriptors[0])

    run(scenario)


@pytest.mark.parametrize("packet", [b"\x07junk", b"\2no file"])
def test_what_is_no_message_ends_the_channel(packet: bytes) -> None:
    async def scenario(one: End, other: End) -> None:
        one.channel._socket.send(packet)
        while not other.closed:
            await asyncio.sleep(0.001)
        assert other.received == []

    run(scenario)


def test_a_message_that_is_too_long_ends_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_MAX_BYTES", 50_000)

    async def scenario(one: End, other: End) -> None:
        one.channel.send(bytes(50_000))
        one.channel.send(bytes(50_001))
        while not other.closed:
            await asyncio.sleep(0.001)
        assert len(other.received) == 1

    run(scenario)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_was_said_before_an_end_arrives_where_the_other_side_had_not_read_all(
    runner: Any,
) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for _ in range(PACKETS_PER_TURN + 1):
            theirs.send(b"\0said")
        # What the other side has not read makes an error of its end.
        ours.send(b"\0unread")
        theirs.close()
        one = End(ours)
        async with asyncio.timeout(10):
            while not one.closed:
                await asyncio.sleep(0.001)
        assert len(one.received) == PACKETS_PER_TURN + 1

    runner(scenario())
