"""Faults while changing: each ends in one generation running, the reason named, nothing lost."""

import asyncio
import json
import os
import random
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from tests.control.serve import Served, served
from tests.control.test_changes import WORKERS, connected, deny, statuses
from tests.support.proxy import run
from tests.support.waiting import until

needs_workers = pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")

SEED = 20261128
MOMENTS = 4
"""How many moments around a commit a worker is killed at."""

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


async def post(path: Path, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return what a control socket answers; quicker than a command."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    content = json.dumps(body).encode()
    writer.write(
        f"POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"content-length: {len(content)}\r\n\r\n".encode()
        + content
    )
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(answer)


@needs_workers
def test_a_worker_killed_around_a_commit_or_a_rollback_leaves_one_generation_in_force(
    tmp_path: Path,
) -> None:
    """From before it is prepared until after it is in force, at moments that a seed chooses."""
    control = tmp_path / "control.sock"

    def here(settings: dict[str, Any]) -> None:
        settings["control"] = {"socket": str(control)}

    async def scenario() -> None:
        moments = random.Random(SEED)
        async with served(tmp_path, WORKERS, here) as proxy:
            in_force = 200
            for _ in range(MOMENTS):
                proxy.write(deny)
                back = in_force == 403
                target = "/admin/runtime/rollback" if back else "/admin/runtime/reload"
                change = asyncio.ensure_future(post(control, target, {}))
                await asyncio.sleep(moments.uniform(0.0, 0.06))
                os.kill(moments.choice(proxy.workers), signal.SIGKILL)
                status, answer = await change
                if status == 200:
                    assert answer["changed"]
                    in_force = 200 if back else 403
                else:
                    assert "died" in str(answer) or "a worker is gone" in str(answer)
                await until(lambda: len(proxy.workers) == WORKERS)
                assert await statuses(await connected(proxy)) == {in_force}

    run(scenario)
