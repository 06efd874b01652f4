"""A worker's agent prepares, switches and discards as a supervisor says."""

import asyncio
import os
from pathlib import Path

from spooky import config
from spooky.edge.messages import Discard, Failed, Prepare, Prepared, PrepareFailed, Resolved
from spooky.edge.reduced import reduced
from tests.support.proxy import configuration, connect, run
from tests.support.told_worker import ToldWorker


def test_an_agent_prepares_switches_and_ends_when_it_is_behind(tmp_path: Path) -> None:
    settings = configuration(tmp_path, "http://127.0.0.1:9")
    # Else nobody asks the backend any more, which never answers.
    settings["resilience"] = {"circuit_breaker": {"enabled": False}}
    loaded = config.from_mapping(settings)
    settings["upstream"]["backend"]["route"]["path_prefix"] = "/elsewhere"
    changed = config.from_mapping(settings)

    async def scenario() -> None:
        worker = ToldWorker(loaded)
        tell, heard = worker.tell, worker.heard
        files, authorities = dict(worker.materials.files), worker.materials.authorities
        async with worker.running() as running:
            client = await connect("h2", worker.port)
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
            worker.agent._names.answered(Resolved("gone.test", 80, ("10.0.0.9",)))
            worker.commit(3)
            assert (await client.fetch("GET", "/")).status == 404
            assert worker.agent._names._known == {}
            tell(Prepare(4, loaded, files, authorities, (0,), 1.0, ()))
            assert await heard.get() == Prepared(4)
            tell(Discard(4))
            await asyncio.sleep(0.05)
            # Read in one turn, so that the first has not begun when the second comes.
            before = os.listdir("/proc/self/fd")
            tell(Prepare(5, loaded, files, authorities, (0,), 1.0, ("log",)), worker.memory)
            tell(Discard(5))
            # Once a later one is answered, these were read.
            tell(Prepare(6, loaded, files, authorities, (0,), 1.0, ()))
            assert await heard.get() == Prepared(6)
            assert os.listdir("/proc/self/fd") == before
            tell(Discard(6))
            worker.commit(4)
            assert (await client.fetch("GET", "/")).status == 503
            assert isinstance(await heard.get(), Failed)
            await client.close()
            assert await running is False

    run(scenario)
