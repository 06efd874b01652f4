"""How long a change holds the loop of a worker, which is in this process, at a time."""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import AsyncIterator
from typing import Final

from spooky.config.schema import Configuration
from spooky.control.sockets import bind_listener
from spooky.edge import messages
from spooky.edge.agent import Agent
from spooky.edge.messages import Prepare, Prepared, Ready, Start, ToSupervisor
from spooky.edge.reduced import reduced
from spooky.generation.materials import read_materials
from spooky.observe.segment import create_segment
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering
from spooky.runtime.channel import Channel

SWITCH_SECONDS: Final = 0.1
"""A worker without requests has seen by then that another generation is in force."""


class HeldLoop:
    """Notes how long each turn of the running loop takes of the processor.

    Not by a clock on the wall: others that run meanwhile would count.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._longest = self._total = 0.0
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        held = time.thread_time() - self._last
        self._longest = max(self._longest, held)
        self._total += held
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)

    def begin(self) -> None:
        """Count from now on."""
        self._longest = self._total = 0.0
        self._last = time.thread_time()

    def longest_ms(self) -> float:
        """Return the longest of the turns since then; milliseconds."""
        return 1000 * self._longest


class ToldWorker:
    """A worker's agent, and the supervisor's end of its channel.

    Arguments:
        configuration: What it begins with.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.agent: Agent
        self._configuration = configuration
        self._number = 1
        self._materials = read_materials(configuration)
        self._heard: asyncio.Queue[ToSupervisor] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it until the block ends."""
        configuration, materials = self._configuration, self._materials
        self._segment, memory = create_segment(1)
        self._segment.commit(1)
        bound = bind_listener(configuration.active_listeners[0], configuration.performance)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inbox, way = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(
            ours,
            lambda data, _: self._heard.put_nowait(messages.decode_for_supervisor(data)),
            lambda: None,
        )
        self.agent = Agent(theirs)
        running = asyncio.ensure_future(self.agent.run())
        passed = {
            "segment": memory, "inbox": inbox.fileno(),
            "tcp:0": bound.tcp.fileno(), "udp:0": bound.udp[0].fileno(),
        }  # fmt: skip
        start = Start(
            0, 1, configuration, dict(materials.files), materials.authorities, Keys.generate(),
            Steering((0,)), (0,), False, tuple(passed),
        )  # fmt: skip
        self._channel.send(messages.encode(start), list(passed.values()))
        assert await self._heard.get() == Ready()
        try:
            yield
        finally:
            self._channel.send(messages.encode(messages.Stop()))
            await running
            self._channel.close()
            for one in (inbox, way):
                one.close()
            bound.close()
            os.close(memory)

    async def change(self, configuration: Configuration, loop: HeldLoop) -> tuple[float, float]:
        """Put another configuration in force.

        Returns:
            The longest turn while it was prepared, and that from the commit on; milliseconds.
        """
        number = self._number + 1
        told, base = reduced(configuration, self._number, self._configuration)
        files, authorities = dict(self._materials.files), self._materials.authorities
        data = messages.encode(Prepare(number, told, files, authorities, (0,), 1.0, (), base))
        # What the supervisor makes of it is none of the worker's, as its process has it.
        gc.collect()
        gc.freeze()
        self._channel.send(data)
        loop.begin()
        assert await self._heard.get() == Prepared(number)
        preparing = loop.longest_ms()
        loop.begin()
        self._segment.commit(number)
        await asyncio.sleep(SWITCH_SECONDS)
        worker = self.agent._worker
        assert worker is not None
        assert worker.service.generation.number == number
        while worker._afterwards:
            await asyncio.sleep(0)
        self._number, self._configuration = number, configuration
        return preparing, loop.longest_ms()
