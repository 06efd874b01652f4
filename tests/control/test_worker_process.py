"""A worker that reads nothing, as the supervisor sees it."""

import asyncio
import subprocess
from typing import Any

import pytest

from spooky.control import worker_process
from spooky.control.worker_process import WorkerProcess
from spooky.edge.messages import Drain, Resolved
from tests.support.proxy import run

NAMES = 2000
"""More than the channel holds while nobody reads."""


def test_addresses_that_a_worker_does_not_read_are_left_out_and_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(channel: int, _: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, pass_fds=[channel])

    monkeypatch.setattr(worker_process, "_start", start)

    async def scenario() -> None:
        gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        worker = WorkerProcess(0, lambda *_: None, gone.set_result)
        try:
            for at in range(NAMES):
                worker.send(Resolved(f"{at}.test", 80, ("10.0.0.1",), changed=True))
            await asyncio.sleep(0.1)
            assert not gone.done()
            # What has to arrive is no such thing.
            worker.send(Drain(1.0))
            await gone
            assert worker.exit_text == "signal 9"
        finally:
            worker.kill()

    run(scenario)


def test_a_worker_that_may_not_be_signalled_is_told_by_the_end_of_its_channel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(channel: int, _: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["cat"], stdin=channel, stdout=subprocess.DEVNULL)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(worker_process, "_start", start)

    async def scenario() -> None:
        gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        worker = WorkerProcess(0, lambda *_: None, gone.set_result)
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "send_signal", refuse)
            worker.ask_for_stack()
            assert not gone.done()
            worker.kill()
        async with asyncio.timeout(30):
            await gone
        assert worker.exit_text == "exit code 0"

    run(scenario)
    assert "may not ask worker 0 for its stack" in caplog.text
    assert "may not kill worker 0" in caplog.text
