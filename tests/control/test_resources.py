"""How open files are counted, where the kernel tells and where it has to list them."""

import asyncio
import mmap
import os

import pytest

from spooky._core.shared import Segment, segment_size
from spooky.control import resources
from spooky.control.resources import LISTED_SECONDS, FileCounter, ResourceWatch
from spooky.runtime import Runtime

PIDS_MAX = 2**22
"""The kernel gives no process a greater number."""


def measure(pid: int) -> None:
    """Measure a worker some times."""

    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        segment = Segment(mmap.mmap(-1, segment_size(2)), 2)
        watch = ResourceWatch(runtime, segment, lambda: {0: pid})
        for _ in range(3):
            watch._measure(None)
        await runtime.close()

    asyncio.run(scenario())


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An older kernel, whose listings are noted."""
    seen: list[str] = []

    def listed(path: str) -> list[str]:
        seen.append(path)
        return ["0", "1", "2"] * len(seen)

    monkeypatch.setattr(resources, "_counted_files", lambda _: 0)
    monkeypatch.setattr(os, "listdir", listed)
    return seen


def test_where_the_kernel_does_not_count_files_are_listed_seldom(listings: list[str]) -> None:
    counter = FileCounter()
    counts = [counter.count(7, step * LISTED_SECONDS / 8) for step in range(17)]
    assert counts == [3] * 8 + [6] * 8 + [9]
    assert len(listings) == 3
    counter.forget_but([])
    assert counter.count(7, 2 * LISTED_SECONDS) == 12


def test_where_it_counts_they_are_never_listed(
    listings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_counted_files", lambda _: 5)
    counter = FileCounter()
    assert [counter.count(7, now) for now in (0.0, 100.0)] == [5, 5]
    assert listings == []


def test_a_worker_whose_open_files_alone_are_refused_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(pid: int) -> int:
        raise PermissionError(pid)

    monkeypatch.setattr(resources, "_counted_files", refused)
    measure(os.getpid())
    assert caplog.text.count("cannot read /proc of worker 0") == 1


def test_our_own_are_counted() -> None:
    before = resources.open_files(os.getpid())
    with open(os.devnull):
        assert resources.open_files(os.getpid()) == before + 1


@pytest.mark.parametrize("hidden", [True, False])
def test_a_worker_that_cannot_be_measured_is_told_once(
    hidden: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As where /proc hides the processes of other users."""
    measure(PIDS_MAX + 1 if hidden else os.getpid())
    assert caplog.text.count("cannot read /proc of worker 0") == hidden
