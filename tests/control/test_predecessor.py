"""A start while another Spooky drains in the same place waits for its end, and for nothing else."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from spooky.control import predecessor
from spooky.control.candidate import read_candidate
from spooky.control.predecessor import wait_for_end
from spooky.control.slots import StartError
from spooky.control.sockets import BindError
from spooky.control.supervisor import Supervisor
from tests.support.proxy import configuration, run

PATIENT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predecessor, "LOOK_SECONDS", 0.01)


class Other:
    """Stands in for the control socket of another Spooky."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Any = {"pid": os.getpid(), "state": "draining", "version": "1"}
        self.asked = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self.server = await asyncio.start_unix_server(self._answer, self.path)

    def close(self) -> None:
        """Listen no more, as at the end."""
        assert self.server is not None
        self.server.close()
        self.path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(self.answer).encode())
        writer.close()
        self.asked.set()


@contextlib.asynccontextmanager
async def draining(directory: Path) -> AsyncIterator[Other]:
    other = Other(directory / "control.sock")
    await other.open()
    try:
        yield other
    finally:
        other.close()


def test_the_end_of_what_drains_is_waited_for_and_of_its_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with draining(tmp_path) as other:
            process = await asyncio.create_subprocess_exec("sleep", "60")
            other.answer["pid"] = process.pid
            shown: list[str] = []
            waiting = asyncio.ensure_future(wait_for_end(other.path, 5.0, shown.append))
            await other.asked.wait()
            other.close()
            done, _ = await asyncio.wait({waiting}, timeout=0.1)
            assert not done
            process.kill()
            await waiting
            await process.wait()
            assert shown == [
                f"another Spooky drains, process {process.pid}: waiting for its end, for up to 25 s"
            ]

    run(scenario)


def test_what_drains_for_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predecessor, "MARGIN_SECONDS", 0.0)

    async def scenario() -> None:
        async with draining(tmp_path) as other:
            with pytest.raises(StartError, match=f"still drains, process {os.getpid()}, after 0 s"):
                await wait_for_end(other.path, 0.05, lambda _: None)

    run(scenario)


@pytest.mark.parametrize(
    "answer", [{"pid": 1, "state": "serving"}, {"code": "forbidden"}, "what is no Spooky", None]
)
def test_nothing_else_is_waited_for(tmp_path: Path, answer: Any) -> None:
    async def scenario() -> None:
        async with draining(tmp_path) as other:
            other.answer = answer
            if answer is None:
                other.close()
            await wait_for_end(other.path, PATIENT_SECONDS, pytest.fail)

    run(scenario)


def test_a_start_binds_nothing_until_what_drains_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessor, "EXIT_SECONDS", 0.0)
    settings = configuration(tmp_path, "http://127.0.0.1:1")
    settings["control"] = {"socket": str(tmp_path / "control.sock"), "state_dir": str(tmp_path)}

    async def scenario() -> None:
        async with draining(tmp_path) as other:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                settings["listen"]["port"] = taken.getsockname()[1]
                file = tmp_path / "spooky.yaml"
                file.write_text(yaml.safe_dump(settings))
                supervisor = Supervisor(read_candidate(file), lambda _: None)
                starting = asyncio.ensure_future(supervisor.run())
                asked = asyncio.ensure_future(other.asked.wait())
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait({starting, asked}, return_when=first)
                await asyncio.wait({starting}, timeout=0.1)
                assert not starting.done()
                other.close()
                with pytest.raises(BindError):
                    await starting

    run(scenario)
