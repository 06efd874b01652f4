"""Another program takes over what a running one serves, or leaves it as it was."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from spooky._core import COMPILED
from spooky.cli.control_client import post
from spooky.control.upgrade import PREPARE_SECONDS
from tests.certificates import ca, leaf, write
from tests.control.control_api import ask, port_of, with_tokens
from tests.control.serve import START_SECONDS, Served, connected_at, served
from tests.control.test_changes import connected, deny, statuses
from tests.control.test_changes_under_load import (
    begin_long_streams,
    finish_long_streams,
    keep_asking,
    let_streams_be_silent,
)
from tests.control.test_shared_keys import connect as resuming
from tests.interop.serving import children
from tests.support.client import Response
from tests.support.proxy import INGRESSES, run
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")

WORKERS = 2


class Upgraded:
    """The supervisors of a service, one after the other."""

    def __init__(self, proxy: Served) -> None:
        self.proxy = proxy
        self.pids = [proxy.process.pid]

    async def upgrade(self, *arguments: str) -> dict[str, Any]:
        """Have another program take over; return what the command says."""
        code, output = await self.proxy.command("upgrade", "--json", *arguments)
        assert code == 0, output
        answer: dict[str, Any] = json.loads(output)
        self.pids.append(answer["pid"])
        return answer

    async def status(self) -> dict[str, Any]:
        """Return what the service says of itself."""
        code, output = await self.proxy.command("status", "--json")
        assert code == 0, output
        answer: dict[str, Any] = json.loads(output)
        return answer


@contextlib.asynccontextmanager
async def upgradable(directory: Path, *arguments: Any, **more: Any) -> AsyncIterator[Upgraded]:
    """Run ``spooky serve``, and end what took over."""
    async with served(directory, WORKERS, *arguments, **more) as proxy:
        service = Upgraded(proxy)
        try:
            yield service
        finally:
            for pid in service.pids[1:]:
                for one in (pid, *children(pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text()
        return status.rpartition(") ")[2][0] == "Z"
    return True


@pytest.mark.parametrize(
    "upgrades", [2, pytest.param(20, marks=(pytest.mark.soak, pytest.mark.timeout(1800)))]
)
def test_no_request_fails_while_one_program_follows_another(tmp_path: Path, upgrades: int) -> None:
    def prepare(settings: dict[str, Any]) -> None:
        settings["performance"]["shutdown_drain_timeout_ms"] = 3_600_000
        let_streams_be_silent(settings)
        settings["control"] = {"state_dir": str(tmp_path / "chosen")}
        with_tokens(tmp_path, settings)

    async def keep_calling(port: int, stop: asyncio.Event) -> set[int]:
        statuses = set()
        while not stop.is_set():
            statuses.add((await ask(port, "/admin/runtime", "viewer")).status)
            await asyncio.sleep(0.02)
        return statuses

    async def scenario() -> None:
        async with upgradable(tmp_path, prepare) as service:
            proxy = service.proxy
            code, output = await proxy.command("backend", "weight", "backend", "one", "7")
            assert code == 0, output
            long_streams = await begin_long_streams(proxy)
            stop, failed = asyncio.Event(), list[Response]()
            load = [
                asyncio.ensure_future(keep_asking(proxy, ingress, stop, failed))
                for ingress in INGRESSES
                for _ in range(2)
            ]
            calling = asyncio.ensure_future(keep_calling(port_of(proxy), stop))
            for _ in range(upgrades):
                last = service.pids[-1]
                upgrading = asyncio.ensure_future(service.upgrade())
                await until(lambda: len(children(last)) > WORKERS)  # noqa: B023
                # A change that is asked for meanwhile waits, and is the new program's to make.
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert "nothing changed" in output
                await upgrading
                status = await service.status()
                assert status["pid"] == service.pids[-1]
                assert status["generation"]["number"] == 2
                (override,) = status["overrides"]
                assert (override["key"], override["value"]) == ("weight", 7)
            stop.set()
            assert await calling == {200}
            counts = await asyncio.gather(*load)
            assert failed == []
            assert min(counts) > 0
            # Those between had nothing to finish; the first has the streams still.
            await until(lambda: all(map(gone, service.pids[1:-1])))
            assert not gone(service.pids[0])
            proxy.origin.gate.opened.set()
            await finish_long_streams(long_streams)
            assert await proxy.exited() == 0
            # What took over is a service like any other.
            clients = await connected(proxy)
            proxy.write(deny)
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(clients) == {403}
            code, output = await proxy.command("history")
            assert len(output.splitlines()) == 3
            assert len(list((tmp_path / "chosen").glob("*.json"))) == 3
            os.kill(service.pids[-1], signal.SIGTERM)
            await until(lambda: gone(service.pids[-1]))
            assert "died" not in proxy.log

    # Twenty take longer than a scenario may.
    uvloop.run(scenario())


CRASH = "#!/bin/sh\necho no such library >&2\nexit 3\n"
OTHER_VERSION = """#!{python}
import socket, sys
end = socket.socket(fileno=int(sys.argv[-1]))
end.send(b"\\0\\x09")
end.recv(1)
"""
SILENT = "#!/bin/sh\nexec sleep 1000\n"
TIMEOUT = """
import sys
if "serve" in sys.orig_argv:
    import spooky.control.upgrade as upgrade
    upgrade.PREPARE_SECONDS = 1.0
"""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (CRASH, "exit code 3 before it served"),
        (OTHER_VERSION, "hands over in version 9"),
        (SILENT, "not ready within 1 s"),
        ("no program", "cannot be started"),
    ],
)
def test_a_program_that_cannot_take_over_leaves_the_old_one_and_is_named(
    tmp_path: Path, program: str, reason: str
) -> None:
    path = tmp_path / "other-spooky"
    path.write_text(program.replace("{python}", sys.executable))
    path.chmod(0o755)
    (tmp_path / "site").mkdir()
    if program is SILENT:
        (tmp_path / "site" / "sitecustomize.py").write_text(TIMEOUT)
    imports = f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', Path.cwd())}"

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, environment={"PYTHONPATH": imports}) as proxy:
            clients = [await proxy.client(ingress) for ingress in INGRESSES]
            before = proxy.workers
            code, output = await proxy.command("upgrade", "--program", str(path))
            assert code == 1
            assert reason in output
            assert await statuses(clients) == {200}
            await until(lambda: proxy.workers == before)
            # Changes go on, and so would an upgrade.
            proxy.write(deny)
            assert (await proxy.command("reload"))[0] == 0
            assert await statuses(clients) == {403}

    run(scenario)


# In the new program: as if it died at the worst moments.
DIE = """
import os, signal, sys
if "--take-over" in sys.orig_argv:
    from spooky.control.crew import Crew
    from spooky.control.heir import Heir
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if os.environ["DIE"] == "before":
        Heir.wait_for_begin = die
    else:
        Heir.wait_until_over = die
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_new_program_that_dies_before_or_after_its_begin_is_missed_by_nobody(
    tmp_path: Path, moment: str
) -> None:
    (tmp_path / "die").mkdir()
    (tmp_path / "die" / "sitecustomize.py").write_text(DIE)
    path = f"{tmp_path / 'die'}:{os.environ.get('PYTHONPATH', Path.cwd())}"

    async def scenario() -> None:
        environment = {"PYTHONPATH": path, "DIE": moment}
        async with served(tmp_path, WORKERS, environment=environment) as proxy:
            clients = [await proxy.client(ingress) for ingress in INGRESSES]
            code, output = await proxy.command("upgrade")
            assert code == 1
            assert "signal 9 before it served" in output
            assert await statuses(clients) == {200}
            assert await statuses(await connected(proxy)) == {200}
            if moment == "after":
                # Its workers are followed until they have finished, and their slots are free again.
                await until(lambda: proxy.log.count("of the other program has finished") == WORKERS)
            # New workers get the slots, and the sockets, that the kernel has for them.
            code, output = await proxy.command("reload", "--workers")
            assert code == 0, output
            for _ in range(4):
                assert await statuses(await connected(proxy)) == {200}

    run(scenario)


# In the old program: it dies when everything is told and the new one prepares.
OLD_DIES = """
import os, signal, sys
if "serve" in sys.orig_argv and "--take-over" not in sys.orig_argv:
    from spooky.control.upgrade import _Successor
    hear = _Successor.hear

    async def hear_and_die(self, kind, seconds):
        heard = await hear(self, kind, seconds)
        os.kill(os.getpid(), signal.SIGKILL)
        return heard

    _Successor.hear = hear_and_die
"""


@pytest.mark.timeout(300)
def test_an_old_program_that_dies_meanwhile_is_followed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "die").mkdir()
    (tmp_path / "die" / "sitecustomize.py").write_text(OLD_DIES)
    path = f"{tmp_path / 'die'}:{os.environ.get('PYTHONPATH', Path.cwd())}"

    def prepare(settings: dict[str, Any]) -> None:
        # Longer than the new program may take to begin: the streams are there all the while.
        times = ("shutdown_drain_timeout_ms", "backend_timeout_ms", "backend_body_idle_timeout_ms")
        settings["performance"] |= dict.fromkeys(times, 200_000)

    async def scenario() -> None:
        async with upgradable(tmp_path, prepare, {"PYTHONPATH": path}) as service:
            proxy = service.proxy
            streams = [await (await proxy.client(one)).open("GET", "/wait") for one in INGRESSES]
            await until(lambda: proxy.origin.gate.requests["/wait"] == len(INGRESSES))
            asking = asyncio.ensure_future(proxy.command("upgrade"))
            # It starts as any program does, on a machine that may be busy.
            await until(lambda: proxy.log.count("serving on") == 2, START_SECONDS + PREPARE_SECONDS)
            await asking
            (number,) = {
                int(line.rpartition(" ")[2])
                for line in proxy.log.splitlines()
                if "taking over as process" in line
            }
            service.pids.append(number)
            assert await statuses(await connected(proxy)) == {200}
            assert await statuses(await connected_at(proxy, WORKERS)) == {200}
            # Those that follow the first ones that follow are known there, too.
            code, output = await proxy.command("reload", "--workers")
            assert code == 0, output
            assert await statuses(await connected_at(proxy, WORKERS)) == {200}
            assert proxy.log.count("of the other program has finished") < WORKERS
            proxy.origin.gate.opened.set()
            for stream in streams:
                response = await stream.whole()
                assert (response.status, response.cut) == (200, None)
            # The slots of the dead program's workers are free again, and changes go on.
            await until(lambda: proxy.log.count("of the other program has finished") == WORKERS)
            proxy.write(deny)
            code, output = await proxy.command("reload")
            assert code == 0, output

    uvloop.run(scenario())


def test_a_probation_stops_an_upgrade_and_sessions_and_what_was_taken_back_outlive_one(
    tmp_path: Path,
) -> None:
    def weigh(weight: int) -> Any:
        def change(settings: dict[str, Any]) -> None:
            (upstream,) = settings["upstream"].values()
            upstream["backends"][0]["weight"] = weight

        return change

    async def scenario() -> None:
        async with upgradable(tmp_path) as service:
            proxy = service.proxy
            before = await resuming(proxy.port)
            socket = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            asked = {"probation_seconds": 600}

            async def change(how: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
                return await asyncio.to_thread(post, socket, f"/admin/runtime/{how}", body or {})

            proxy.write(weigh(7))
            answer = await change("reload", asked)
            assert answer["changed"]
            code, output = await proxy.command("upgrade")
            assert code == 1
            assert "is on probation" in output
            assert (await service.status())["probation"]["verdict"] == "watching"
            # Another change ends it, and then the way is free.
            proxy.write(lambda settings: settings.update(control={"watch": True}))
            await change("reload")
            proxy.write(weigh(8))
            await change("reload")
            await change("rollback")
            await service.upgrade()
            # Who sees this looks at the configuration first, whose last edit was taken back.
            write(leaf(["localhost"], ca()), tmp_path)
            taken = "asked by certificate watch"
            await until(lambda: taken in proxy.log.partition("taking over")[2])
            assert "asked by file watch" not in proxy.log
            assert (await service.status())["pid"] == service.pids[-1]
            after = await resuming(proxy.port, session_ticket=before.tickets[0])
            assert after.protocol._quic.tls.session_resumed
            # What took over puts generations on probation as well.
            proxy.write(weigh(9))
            await change("reload", asked)
            assert (await service.status())["probation"]["verdict"] == "watching"

    run(scenario)
