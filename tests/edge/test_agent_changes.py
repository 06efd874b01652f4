"""A worker's agent prepares, switches and discards as a supervisor says."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky import config
from spooky.control.sockets import bind_listener
from spooky.edge import messages
from spooky.edge.agent import Agent
from spooky.edge.messages import (
    Discard,
    Failed,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Resolved,
    Start,
    ToSupervisor,
    ToWorker,
)
from spooky.edge.reduced import reduced
from spooky.generation.materials import read_materials
from spooky.observe.segment import create_segment
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering
from spooky.runtime.channel import Channel
from tests.support.proxy import configuration, connect, run


@pytest.fixture(autouse=True)
def _same_logging() -> Iterator[None]:
    """Undo what an agent does to the loggers of its process."""
    logger = logging.getLogger("spooky")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def test_an_agent_prepares_switches_and_ends_when_it_is_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = configuration(tmp_path, "http://127.0.0.1:9")
        # Else nobody asks the backend any more, which never answers.
        settings["resilience"] = {"circuit_breaker": {"enabled": False}}
        loaded = config.from_mapping(settings)
        settings["upstream"]["backend"]["route"]["path_prefix"] = "/elsewhere"
        changed = config.from_mapping(settings)
        materials = read_materials(loaded)
        files, authorities = dict(materials.files), materials.authorities
        segment, memory = create_segment(1)
        segment.commit(1)
        sockets = bind_listener(loaded.active_listeners[0], loaded.performance)
        heard: asyncio.Queue[ToSupervisor] = asyncio.Queue()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(
            ours,
            lambda data, _: heard.put_nowait(messages.decode_for_supervisor(data)),
            lambda: None,
        )

        def tell(message: ToWorker, *descriptors: int) -> None:
            channel.send(messages.encode(message), descriptors)

        agent = Agent(theirs)
        running = asyncio.ensure_future(agent.run())
        keys, steering = Keys.generate(), Steering((0,))
        names = ("segment", "inbox", "tcp:0", "udp:0")
        inbox, way = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        tell(
            Start(0, 1, loaded, files, authorities, keys, steering, (0,), False, names),
            memory, inbox.fileno(), sockets.tcp.fileno(), sockets.udp[0].fileno(),
        )  # fmt: skip
        assert await heard.get() == Ready()
        client = await connect("h2", sockets.address[1])
        assert (await client.fetch("GET", "/")).status == 502
        tell(Prepare(2, changed, {}, b"", (0,), 1.0, ()))
        failed = await heard.get()
        assert isinstance(failed, PrepareFailed)
        assert failed.generation == 2
        told, base = reduced(changed, 9, loaded)
        tell(Prepare(2, told, files, authorities, (0,), 1.0, (), base))
        failed = await heard.get()
        assert isinstance(failed, PrepareFailed)
        assert "it has generation 1" in failed.text
        told, base = reduced(changed, 1, loaded)
        tell(Prepare(3, told, files, authorities, (0,), 1.0, (), base))
        assert await heard.get() == Prepared(3)
        assert (await client.fetch("GET", "/")).status == 502
        agent._names.answered(Resolved("gone.test", 80, ("10.0.0.9",)))
        segment.commit(3)
        assert (await client.fetch("GET", "/")).status == 404
        assert agent._names._known == {}
        tell(Prepare(4, loaded, files, authorities, (0,), 1.0, ()))
        assert await heard.get() == Prepared(4)
        tell(Discard(4))
        await asyncio.sleep(0.05)
        # Read in one turn, so that the first has not begun when the second comes.
        before = os.listdir("/proc/self/fd")
        tell(Prepare(5, loaded, files, authorities, (0,), 1.0, ("log",)), memory)
        tell(Discard(5))
        # Once a later one is answered, these were read.
        tell(Prepare(6, loaded, files, authorities, (0,), 1.0, ()))
        assert await heard.get() == Prepared(6)
        assert os.listdir("/proc/self/fd") == before
        tell(Discard(6))
        segment.commit(4)
        assert (await client.fetch("GET", "/")).status == 503
        assert isinstance(await heard.get(), Failed)
        await client.close()
        assert await running is False
        channel.close()
        sockets.close()
        inbox.close()
        way.close()
        os.close(memory)

    run(scenario)
