"""A worker's agent in this process, told what to do as a supervisor would."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator

from spooky.config.schema import Configuration
from spooky.control.sockets import bind_listener
from spooky.edge import messages
from spooky.edge.agent import Agent
from spooky.edge.messages import Ready, Start, Stop, ToSupervisor, ToWorker
from spooky.generation.materials import read_materials
from spooky.observe.segment import create_segment
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering
from spooky.runtime.channel import Channel


class ToldWorker:
    """A worker's agent, and the supervisor's end of its channel.

    Arguments:
        configuration: What it begins with, as generation 1.

    Attributes:
        agent: The agent, while it runs.
        materials: Of the configuration.
        port: Where it listens.
        memory: The descriptor of the segment.
        heard: What it says.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.agent: Agent
        self.port: int
        self.memory: int
        self.materials = read_materials(configuration)
        self.heard: asyncio.Queue[ToSupervisor] = asyncio.Queue()
        self._configuration = configuration

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Future[bool]]:
        """Run it until the block ends, or it ends; give what becomes of it."""
        with contextlib.ExitStack() as rest:
            rest.enter_context(_same_logging())
            self._segment, self.memory = create_segment(1)
            rest.callback(os.close, self.memory)
            self._segment.commit(1)
            configuration = self._configuration
            bound = bind_listener(configuration.active_listeners[0], configuration.performance)
            rest.callback(bound.close)
            self.port = bound.address[1]
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            inbox, way = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            rest.callback(inbox.close)
            rest.callback(way.close)
            self._channel = Channel(
                ours,
                lambda data, _: self.heard.put_nowait(messages.decode_for_supervisor(data)),
                lambda: None,
            )
            rest.callback(self._channel.close)
            self.agent = Agent(theirs)
            running = asyncio.ensure_future(self.agent.run())
            passed = {
                "segment": self.memory, "inbox": inbox.fileno(),
                "tcp:0": bound.tcp.fileno(), "udp:0": bound.udp[0].fileno(),
            }  # fmt: skip
            start = Start(
                0, 1, configuration, dict(self.materials.files), self.materials.authorities,
                Keys.generate(), Steering((0,)), (0,), False, tuple(passed),
            )  # fmt: skip
            self.tell(start, *passed.values())
            assert await self.heard.get() == Ready()
            try:
                yield running
            finally:
                # To one that has ended it is lost.
                self.tell(Stop())
                await running

    def tell(self, message: ToWorker, *descriptors: int) -> None:
        """Send it a message."""
        self._channel.send(messages.encode(message), descriptors)

    def commit(self, number: int) -> None:
        """Put a generation in force."""
        self._segment.commit(number)


@contextlib.contextmanager
def _same_logging() -> Iterator[None]:
    """Undo what an agent does to the loggers of its process."""
    logger = logging.getLogger("spooky")
    before = list(logger.handlers), logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
