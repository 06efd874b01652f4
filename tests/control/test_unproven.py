"""Generations on probation, as the history has them: a crash must not make one a good one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from spooky.control.change import Asked, Committed, InForce
from spooky.control.changes import Changes
from spooky.control.history import History, HistoryError, Record
from spooky.observe.segment import private_segment
from tests.control.test_file_watch import Bench, fresh

WATCHED = Asked("a test", probation_seconds=60.0)


class Kept(Bench):
    """What runs, without processes, with a history on disk."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.history = History(directory / "state", 10)
        self.changes = Changes(
            self.changes.running, self.changes.record, self.history, private_segment(), []
        )
        self.changes.starting = False

    async def change(self, **settings: Any) -> Record:
        """Put a change on probation."""
        self.path.write_text(
            yaml.safe_dump({**yaml.safe_load(self.path.read_text()), "performance": settings})
        )
        return (await self.changes.reload(WATCHED)).record

    def unproven(self) -> list[int]:
        """The numbers that are unproven on disk, as who starts later finds them."""
        directory = self.history.directory
        self.history.close()
        found = History(directory, 10)
        numbers = [record.number for record in found if record.unproven]
        found.close()
        return numbers


def test_what_is_not_proven_is_no_last_good_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        assert (await kept.change(backend_timeout_ms=41_000)).unproven
        newest = kept.history.newest_proven
        assert newest is not None
        assert newest.number == 1
        # Workers that take over, or a backend that is drained, prove nothing.
        assert (await kept.changes.restart(Asked("a test"))).record.unproven
        assert kept.unproven() == [2, 3]

    asyncio.run(scenario())


def test_what_has_passed_is_proven_and_what_it_became_meanwhile_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        await kept.change(backend_timeout_ms=41_000)
        await kept.changes.restart(Asked("a test"))
        await kept.changes.prove(2)
        assert not kept.changes.record.unproven
        assert [record.number for record in kept.history] == [1, 2, 3]
        # One that ended the probation before is none that passed.
        await kept.change(backend_timeout_ms=42_000)
        await kept.change(backend_timeout_ms=43_000)
        await kept.changes.prove(5)
        rollback = await kept.changes.rollback(None, Asked("a test"))
        assert not rollback.record.unproven
        assert kept.unproven() == [4]

    asyncio.run(scenario())


def test_what_is_unproven_is_so_after_a_renewal(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        await kept.change(backend_timeout_ms=41_000)
        fresh(tmp_path)
        renewed = await kept.changes.renew_now(Asked("a test"))
        assert (renewed.record.number, renewed.record.unproven) == (3, True)

    asyncio.run(scenario())


def test_a_rollback_to_what_never_passed_its_probation_has_that_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        committed: list[Committed] = []
        kept.changes.on_committed = committed.append
        await kept.changes.keep_first(inherited=False)
        await kept.change(backend_timeout_ms=41_000)
        # What workers that took over made of it is no more proven, and may be gone back to as well.
        await kept.changes.restart(Asked("a test"))

        async def back(number: int, seconds: float | None = None) -> Record:
            await kept.changes.rollback(1, Asked("a test"))
            assert (committed[-1].probation_seconds, kept.changes.record.unproven) == (0.0, False)
            return (await kept.changes.rollback(number, Asked("a test", "", None, seconds))).record

        for number in (2, 3):
            assert (await back(number)).unproven
            assert committed[-1].probation_seconds == 60.0
            await kept.changes.prove(kept.changes.record.number)
            assert not kept.changes.record.unproven
        # By the word of whoever asks.
        for seconds, unproven in ((0.0, False), (30.0, True)):
            assert (await back(2, seconds)).unproven == unproven
            assert committed[-1].probation_seconds == seconds

    asyncio.run(scenario())


def test_what_a_probation_goes_back_to_has_none(tmp_path: Path) -> None:
    """Else the two might go on for ever."""

    async def scenario() -> None:
        kept = Kept(tmp_path)
        committed: list[Committed] = []
        kept.changes.on_committed = committed.append
        settings = yaml.safe_load(kept.path.read_text())
        kept.path.write_text(yaml.safe_dump({**settings, "control": {"probation": 30}}))
        await kept.changes.reload(Asked("a test"))
        earlier = InForce(kept.changes.running, kept.changes.record)
        await kept.change(backend_timeout_ms=41_000)
        await kept.changes.restore(earlier, Asked("probation"))
        assert [one.probation_seconds for one in committed] == [30.0, 60.0, 0.0]

    asyncio.run(scenario())


def test_a_start_with_the_same_file_says_that_it_is_not_watched_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        await kept.change(backend_timeout_ms=41_000)
        await kept.changes.keep_first(inherited=True)
        assert kept.changes.record.unproven
        await kept.changes.keep_first(inherited=False)
        assert "generation 2 was on probation when Spooky ended" in caplog.text
        assert kept.unproven() == []

    asyncio.run(scenario())


def test_a_verdict_that_cannot_be_written_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise HistoryError("the disk is full")

    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        await kept.change(backend_timeout_ms=41_000)
        monkeypatch.setattr(kept.history, "write", fail)
        await kept.changes.prove(2)
        assert kept.changes.record.unproven
        assert "generation 2 stays unproven: the disk is full" in caplog.text

    asyncio.run(scenario())
