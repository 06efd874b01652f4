"""Faults while changing: each ends in one generation running, the reason named, nothing lost."""

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from tests.control.serve import Served, connected_at, served
from tests.control.test_changes import WORKERS, connected, deny, statuses
from tests.support import death_at
from tests.support.client import Client
from tests.support.proxy import run
from tests.support.waiting import until

needs_workers = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")

FILE_MAX_BYTES = 1024 * 1024
"""More than messages to workers have, which are files in memory, and less than the history gets."""


def generations(directory: Path) -> list[str]:
    """Return the files of the history, unfinished ones included."""
    return sorted(one for one in os.listdir(directory / "state") if ".json" in one)


def test_a_disk_that_is_full_stops_the_change_and_not_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            proxy.write(deny)
            with proxy.path.open("a") as file:
                file.write(f"# {'x' * 2 * FILE_MAX_BYTES}\n")
            # To whoever writes a longer file the disk is full.
            unlimited = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
            # With no room at all not even certificates can be loaded, nor workers be told.
            for room, said in (
                (0, "the files cannot be used"),
                (4096, "the workers cannot be told"),
                (FILE_MAX_BYTES, "the history in"),
            ):
                limits = (room, resource.RLIM_INFINITY)
                resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, limits)
                code, output = await proxy.command("reload")
                assert code == 1
                assert said in output
                assert "File too large" in output
            assert await statuses(clients) == {200}
            assert generations(tmp_path) == ["0000000001.json"]
            resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, unlimited)
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(clients) == {403}
            assert generations(tmp_path) == ["0000000001.json", "0000000004.json"]

    run(scenario)


def test_a_truncated_history_is_resumed_from_the_newest_that_is_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            proxy.write(deny)
            assert (await proxy.command("reload"))[0] == 0
            newest = tmp_path / "state" / "0000000002.json"
            newest.write_bytes(newest.read_bytes()[:100])
            proxy.path.write_text("version: [")
            proxy.signal(signal.SIGKILL)
            await proxy.exited()
            await resumes(proxy, tmp_path)

    async def resumes(proxy: Served, directory: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "spooky.cli.main", "serve", "--config", str(proxy.path),
            "--resume", "--state-dir", str(directory / "state"), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = b""
        async with asyncio.timeout(60):
            while b"serving HTTP/3" not in said:
                said += await process.stderr.readline()
        try:
            assert b"0000000002.json is not used" in said
            assert b"its checksum is wrong" in said
            assert b"starting with generation 1" in said
            again = Served(process, int(said.rpartition(b"port ")[2]), proxy.origin, directory)
            assert await statuses([await again.client("h3")]) == {200}
        finally:
            process.terminate()
            await process.wait()

    run(scenario)


async def ask(path: Path, target: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
    """Return what a control socket answers, to a POST if there is a body; quicker than commands."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    method, content = ("GET", "") if body is None else ("POST", body)
    writer.write(
        f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"content-length: {len(content)}\r\n\r\n{content}".encode()
    )
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(answer)


def dies(directory: Path, deaths: dict[int, str]) -> dict[str, str]:
    """Return the environment in which a worker dies at a moment of some generations' changes."""
    (directory / "death").mkdir()
    script = Path(death_at.__file__).read_text()
    (directory / "death" / "sitecustomize.py").write_text(script)
    path = f"{directory / 'death'}:{os.environ.get('PYTHONPATH', Path.cwd())}"
    return {"PYTHONPATH": path, "DEATHS": json.dumps(deaths)}


@needs_workers
def test_a_worker_that_dies_at_any_moment_of_a_change_or_a_rollback_leaves_one_in_force(
    tmp_path: Path,
) -> None:
    """Until the word is stored the change comes to nothing if it is heard of; after, it is made."""
    refused, made = ("prepare", "acknowledged"), ("before the word", "after the word")
    steps = [
        ("reload", refused[0]), ("reload", refused[1]), ("reload", made[0]),
        ("rollback", refused[0]), ("rollback", refused[1]), ("rollback", made[0]),
        ("reload", made[1]), ("rollback", made[1]),
    ]  # fmt: skip
    deaths = {number: moment for number, (_, moment) in enumerate(steps, 2)}
    control = tmp_path / "control.sock"

    def here(settings: dict[str, Any]) -> None:
        settings["control"] = {"socket": str(control)}

    async def everywhere(proxy: Served) -> list[Client]:
        """Return connections to all workers; of new ones, as one of them has died."""
        return [
            *await connected_at(proxy, WORKERS),
            await proxy.client("h2"),
            await proxy.client("h1"),
        ]

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, here, dies(tmp_path, deaths)) as proxy:
            proxy.write(deny)
            in_force, kept = 200, [1]
            before = set(proxy.workers)
            # The oldest is slot 0's.
            survivor = proxy.workers[1]
            for number, (change, moment) in enumerate(steps, 2):
                status, answer = await ask(control, f"/admin/runtime/{change}", "{}")
                if moment in made:
                    assert status == 200, answer
                    assert answer["generation"]["number"] == number
                    in_force, kept = 403 if change == "reload" else 200, [*kept, number]
                else:
                    assert status == 500
                    assert "died" in answer["detail"]
                await until(
                    lambda before=before: (
                        len(proxy.workers) == WORKERS and set(proxy.workers) & before == {survivor}
                    )
                )
                before = set(proxy.workers)
                # In each worker the same, and nothing is left of what came to nothing.
                assert await statuses(await everywhere(proxy)) == {in_force}
                assert generations(tmp_path) == [f"{one:010}.json" for one in kept]
            _, now = await ask(control, "/admin/runtime")
            assert (now["generation"]["number"], now["worker_restarts"]) == (kept[-1], len(steps))

    run(scenario)
