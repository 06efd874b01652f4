"""Changes that take new processes: others take over, and nothing is lost on the way."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from tests.control.serve import Served, patient, served
from tests.control.test_changes import connected, statuses
from tests.support.client import Client
from tests.support.proxy import INGRESSES, run
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")

WORKERS = 2


def workers(count: int) -> Callable[[dict[str, Any]], None]:
    """Return the change to another number of workers."""
    return lambda settings: settings["performance"].update(worker_threads=count)


async def reload(proxy: Served) -> None:
    """Put in force what the file says."""
    code, output = await proxy.command("reload")
    assert code == 0, output


async def told(client: Client) -> bool:
    """Return whether a client was told that its connection ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while not client.ending:
                await asyncio.sleep(0.02)
    return client.ending


def test_workers_come_and_go_and_those_before_finish_what_they_have(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS, patient) as proxy:
            before = proxy.workers
            streams = [
                await (await proxy.client(ingress)).open("GET", "/wait") for ingress in INGRESSES
            ]
            await until(lambda: proxy.origin.gate.requests["/wait"] == len(INGRESSES))
            idle = [await proxy.client(ingress) for ingress in INGRESSES for _ in range(2)]
            proxy.write(workers(3))
            await reload(proxy)
            assert await statuses(await connected(proxy)) == {200}
            assert all([await told(client) for client in idle])
            proxy.origin.gate.opened.set()
            responses = [await stream.whole() for stream in streams]
            assert [(one.status, one.cut) for one in responses] == [(200, None)] * len(INGRESSES)
            await until(lambda: not set(before) & set(proxy.workers))
            assert len(proxy.workers) == 3
            proxy.write(workers(1))
            await reload(proxy)
            await until(lambda: len(proxy.workers) == 1)
            assert await statuses(await connected(proxy)) == {200}
            # The slots of those that are gone serve again.
            code, output = await proxy.command("rollback")
            assert code == 0, output
            await until(lambda: len(proxy.workers) == 3)
            assert await statuses(await connected(proxy)) == {200}
            # Nothing of the configuration differs, and all workers are other ones.
            before = proxy.workers
            code, output = await proxy.command("reload", "--workers")
            assert code == 0, output
            await until(lambda: len(proxy.workers) == 3 and not set(before) & set(proxy.workers))
            assert await statuses(await connected(proxy)) == {200}
            assert "died" not in proxy.log

    run(scenario)


def test_a_new_worker_that_dies_while_preparing_leaves_those_that_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            before = proxy.workers
            clients = [await proxy.client(ingress) for ingress in INGRESSES]
            proxy.write(workers(3))
            change = asyncio.ensure_future(proxy.command("reload"))
            await until(lambda: len(proxy.workers) > WORKERS)
            os.kill(proxy.workers[-1], signal.SIGKILL)
            code, output = await change
            assert code == 1
            assert "a new worker died" in output
            await until(lambda: proxy.workers == before)
            assert await statuses(clients) == {200}
            assert not any(client.ending for client in clients)
            await reload(proxy)
            assert await statuses(await connected(proxy)) == {200}

    run(scenario)


# Between the last check and the commit: what no test could time from outside.
KILL_AT_COMMIT = """
import os, signal, sys
if "serve" in sys.orig_argv:
    from spooky.control.crew import Crew
    check = Crew.check_prepared

    def check_and_kill(self):
        check(self)
        slots = self._slots.coming if os.environ["KILL"] == "new" else self._slots.active
        if self._slots.coming:
            os.kill(self.pids[slots[0]], signal.SIGKILL)

    Crew.check_prepared = check_and_kill
"""


@pytest.mark.parametrize("which", ["new", "old"])
def test_a_worker_that_dies_at_the_commit_and_at_the_rollback_is_replaced_or_missed_by_nobody(
    tmp_path: Path, which: str
) -> None:
    (tmp_path / "kill").mkdir()
    (tmp_path / "kill" / "sitecustomize.py").write_text(KILL_AT_COMMIT)
    path = f"{tmp_path / 'kill'}:{os.environ.get('PYTHONPATH', Path.cwd())}"

    async def scenario() -> None:
        environment = {"PYTHONPATH": path, "KILL": which}
        async with served(tmp_path, WORKERS, environment=environment) as proxy:
            for change, count in (("reload", 3), ("rollback", WORKERS)):
                before = set(proxy.workers)
                proxy.write(workers(3))
                code, output = await proxy.command(change)
                assert code == 0, output
                assert await statuses(await connected(proxy)) == {200}
                await until(lambda before=before: not before & set(proxy.workers))
                await until(lambda count=count: len(proxy.workers) == count)

    run(scenario)
