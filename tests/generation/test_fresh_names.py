"""Changes with other names each time: what is shared between workers does not run out."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spooky.edge import worker as worker_module
from spooky.observe.counters import named_slots
from tests.generation.test_changes import Changes, with_changes

CHANGES = 40


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A worker's collector runs rarely: what is superseded goes with its last reference."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_names_that_come_and_go_leave_nothing_in_the_shared_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FORGET_SECONDS", 0.0)

    def named(number: int) -> Any:
        def edit(settings: dict[str, Any]) -> None:
            settings["performance"]["shutdown_drain_timeout_ms"] = 1
            upstream = settings["upstream"].pop("backend")
            upstream["backends"][0]["id"] = f"one-{number}"
            settings["upstream"][f"upstream-{number}"] = upstream

        return edit

    async def scenario(changes: Changes) -> None:
        segment = changes.worker.counters.segment
        client = await changes.setup.client()
        sizes = set()
        for number in range(CHANGES):
            await changes.apply(named(number))
            assert (await client.fetch("GET", "/echo")).status == 200
            changes.worker._forget_counts()
            sizes.add((segment.entries, len(list(named_slots(segment, 0)))))
        assert len(sizes) <= 3
        names = [dict(name.labels).get("upstream") for name, _ in named_slots(segment, 0)]
        assert {name for name in names if name} == {f"upstream-{CHANGES - 1}"}

    with_changes(tmp_path, scenario)
