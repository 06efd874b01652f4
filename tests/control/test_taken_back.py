"""What was taken back stays so until its file changes, and what could not be is tried again."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from spooky.control.candidate import read_candidate
from spooky.control.change import Asked, InForce, Outcome
from spooky.control.file_watch import RETRY_SECONDS, ConfigurationWatch
from spooky.control.files_seen import FilesSeen
from spooky.control.first_generation import begin_with
from tests.certificates import leaf
from tests.control.test_file_watch import AUTHORITY, NAMES, Bench, edit, fresh, watched
from tests.support.waiting import PATIENCE_SECONDS

ASKED = Asked("a test")


# --- certificates -----------------------------------------------------------------------------
def renew_now(bench: Bench) -> Awaitable[Outcome]:
    return bench.changes.renew_now(ASKED)


def reload(bench: Bench) -> Awaitable[Outcome]:
    return bench.changes.reload(ASKED)


async def taken_back(bench: Bench, take: Callable[[Bench], Awaitable[Outcome]]) -> Any:
    """Have another certificate come in force, and go back as a probation does; return it."""
    before = InForce(bench.changes.running, bench.changes.record)
    bad = fresh(bench.path.parent)
    assert (await take(bench)).changed
    assert bench.serial == bad.certificate.serial_number
    await bench.changes.restore(before, ASKED)
    return bad


@pytest.mark.parametrize("take", [renew_now, reload])
def test_a_certificate_that_was_taken_back_stays_so_until_its_file_changes(
    tmp_path: Path, take: Callable[[Bench], Awaitable[Outcome]]
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        await taken_back(bench, take)
        await bench.look(5)
        assert bench.number == 3
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.serial == renewed.certificate.serial_number

    asyncio.run(scenario())


def test_a_new_certificate_is_taken_with_the_key_of_one_that_was_taken_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        bad = await taken_back(bench, renew_now)
        await bench.look(3)
        good = leaf(NAMES, AUTHORITY, key=bad.key)
        bench.certificate.write_bytes(good.certificate_pem)
        await bench.look()
        assert bench.serial == good.certificate.serial_number

    asyncio.run(scenario())


def test_what_was_taken_back_is_taken_when_it_comes_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        bad = await taken_back(bench, renew_now)
        await bench.look()
        fresh(tmp_path)
        await bench.changes.reload(ASKED)
        await bench.look()
        bench.certificate.write_bytes(bad.certificate_pem)
        bench.key.write_bytes(bad.key_pem)
        await bench.look()
        assert bench.serial == bad.certificate.serial_number

    asyncio.run(scenario())


# --- the configuration ------------------------------------------------------------------------
def test_a_file_that_was_taken_back_stays_so_in_a_program_that_takes_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        edit(bench, 20)
        await bench.look()
        await bench.changes.rollback(None, ASKED)
        # All that a new program knows is what the changes of the old one do.
        bench.configuration = ConfigurationWatch(bench.changes)
        await bench.look(5)
        assert bench.number == 3

    asyncio.run(scenario())


def test_a_file_that_was_taken_back_before_the_watch_looked_stays_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        other = tmp_path / "other.yaml"
        shutil.copy(bench.path, other)
        bench.path = other
        edit(bench, 20)
        await bench.changes.apply(other, ASKED)
        await bench.changes.rollback(None, ASKED)
        await bench.look(5)
        assert bench.number == 3

    asyncio.run(scenario())


def test_a_file_that_ended_the_watch_stays_taken_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        settings = yaml.safe_load(bench.path.read_text())
        settings["control"]["watch"] = False
        bench.path.write_text(yaml.safe_dump(settings))
        await bench.look(5)
        assert bench.number == 2
        await bench.changes.rollback(None, ASKED)
        await bench.look(5)
        assert bench.number == 3

    asyncio.run(scenario())


def test_an_edit_that_cannot_be_put_in_force_now_is_tried_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        bench.participant.failure = "the port is in use"
        edit(bench, 20)
        await bench.look(5)
        bench.now += RETRY_SECONDS
        await bench.look(5)
        said = [one for one in caplog.messages if "generation 1 stays" in one]
        assert len(said) == 1
        assert "the port is in use" in said[0]
        bench.participant.failure = ""
        # The second time it waits for twice as long.
        bench.now += RETRY_SECONDS
        await bench.look(5)
        assert bench.number == 1
        bench.now += RETRY_SECONDS
        await bench.look()
        assert bench.changes.running.configuration.control.history == 20

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())


def test_an_edit_before_its_certificate_is_tried_again_and_another_one_at_once(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        settings = yaml.safe_load(bench.path.read_text())
        settings["listen"]["tls"] |= {
            "cert": str(tmp_path / "new.pem"), "key": str(tmp_path / "new.key"),
        }  # fmt: skip
        bench.path.write_text(yaml.safe_dump(settings))
        await bench.look(5)
        assert bench.number == 1
        made = fresh(tmp_path, "new")
        bench.now += RETRY_SECONDS
        await bench.look()
        assert bench.serial == made.certificate.serial_number
        bench.participant.failure = "worker 1 died"
        edit(bench, 20)
        await bench.look(5)
        bench.participant.failure = ""
        edit(bench, 30)
        await bench.look()
        assert bench.changes.running.configuration.control.history == 30

    asyncio.run(scenario())


def test_an_edit_that_failed_is_not_put_in_force_after_somebody_went_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        edit(bench, 20)
        await bench.look()
        bench.participant.failure = "worker 1 died"
        edit(bench, 30)
        await bench.look()
        bench.participant.failure = ""
        await bench.changes.rollback(None, ASKED)
        # Whatever comes between that and the next try: a renewal, or another program.
        fresh(tmp_path)
        await bench.look(5)
        bench.configuration = ConfigurationWatch(bench.changes)
        number = bench.number
        bench.now += RETRY_SECONDS
        await bench.look(5)
        assert bench.number == number
        edit(bench, 40)
        await bench.look()
        assert bench.changes.running.configuration.control.history == 40

    asyncio.run(scenario())


def test_an_edit_while_another_program_takes_over_is_left_to_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in force nowhere, and must not be taken for seen."""

    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        tried, reload_now = asyncio.Event(), bench.changes.reload

        async def noted(asked: Asked) -> Outcome:
            tried.set()
            return await reload_now(asked)

        monkeypatch.setattr(bench.changes, "reload", noted)
        await bench.look()
        edit(bench, 20)
        await bench.look(1)
        async with bench.changes.halted():
            looking = asyncio.ensure_future(bench.look())
            await asyncio.wait_for(tried.wait(), PATIENCE_SECONDS)
            await asyncio.sleep(0)
            handed_on = msgspec.convert(msgspec.to_builtins(bench.changes.seen), FilesSeen)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        bench.changes.seen = handed_on
        bench.configuration = ConfigurationWatch(bench.changes)
        await bench.look(3)
        assert bench.changes.running.configuration.control.history == 20

    asyncio.run(scenario())


def with_control(settings: dict[str, Any]) -> None:
    settings["control"] = {"history": 50}


def test_the_way_back_after_a_renewal_is_the_one_before_it(tmp_path: Path) -> None:
    """And not forward, to what was rolled back."""

    async def scenario() -> None:
        bench = Bench(tmp_path, with_control)
        await bench.look()
        for history in (20, 30):
            edit(bench, history)
            await bench.changes.reload(ASKED)
        await bench.changes.rollback(None, ASKED)
        fresh(tmp_path)
        await bench.look(3)
        assert bench.number == 5
        await bench.changes.rollback(None, ASKED)
        assert bench.changes.running.configuration.control.history == 50
        # Nor after a start that finds other certificates.
        edit(bench, 20)
        await bench.changes.reload(ASKED)
        number = bench.number
        fresh(tmp_path)
        _, record = begin_with(read_candidate(bench.path), bench.changes.history, 1.0)
        assert (record.number, record.origin) == (number + 1, number)

    asyncio.run(scenario())


def test_an_edit_that_failed_before_another_file_was_applied_is_not_taken_for_that(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        bench.participant.failure = "worker 1 died"
        edit(bench, 20)
        await bench.look()
        bench.participant.failure = ""
        other = tmp_path / "other.yaml"
        shutil.copy(bench.path, other)
        bench.path = other
        edit(bench, 30)
        await bench.changes.apply(other, ASKED)
        await bench.changes.rollback(None, ASKED)
        number = bench.number
        await bench.look(5)
        assert bench.number == number

    asyncio.run(scenario())
