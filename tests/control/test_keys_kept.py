"""The keys of tickets, tokens and resets: rotated, and kept for the next start."""

import asyncio
import stat
from pathlib import Path

import pytest

from spooky.control.shared_keys import KEY_SECONDS, NAME, SharedKeys
from spooky.protocol.quic.keys import Keys


class Clock:
    """The time of day, as a test sets it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def started(directory: Path | None, clock: Clock, inherited: Keys | None = None) -> SharedKeys:
    keys = SharedKeys(inherited, lambda _: None, clock)
    keys.open(directory)
    return keys


def test_the_next_start_has_the_same_keys_in_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    clock = Clock()
    first = started(tmp_path, clock)
    clock.now += KEY_SECONDS - 1
    assert started(tmp_path, clock).current == first.current
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    ("passed", "opens"), [(KEY_SECONDS, True), (2 * KEY_SECONDS, False), (-60.0, False)]
)
def test_what_nobody_served_with_for_long_is_rotated_at_the_start(
    tmp_path: Path, passed: float, opens: bool
) -> None:
    """A ticket is good for as long as if there had been no restart; resets are for ever."""
    clock = Clock()
    first = started(tmp_path, clock).current
    clock.now += passed
    second = started(tmp_path, clock).current
    assert second.current not in (first.current, first.fixed)
    assert second.previous == ((first.current,) if opens else ())
    assert (second.fixed, second.number) == (first.fixed, first.number + 1)
    assert started(tmp_path, clock).current == second


def test_rotations_go_on_after_a_restart_are_told_and_kept(tmp_path: Path) -> None:
    clock = Clock()
    first = started(tmp_path, clock).current
    clock.now += KEY_SECONDS - 0.01
    told: list[Keys] = []

    async def scenario() -> None:
        keys = SharedKeys(None, told.append, clock)
        keys.open(tmp_path)
        assert keys.current == first
        running = asyncio.ensure_future(keys.run())
        clock.now += 0.01
        before = (tmp_path / NAME).read_bytes()
        while (tmp_path / NAME).read_bytes() == before:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert started(tmp_path, clock).current == keys.current == told[0]

    asyncio.run(scenario())
    assert len(told) == 1
    assert (told[0].previous, told[0].fixed) == ((first.current,), first.fixed)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version":2}',
        b'{"made":1e300,"number":1,"current":"","previous":[],"fixed":""}',
    ],
)
def test_a_broken_file_is_named_and_replaced(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(content)
    clock = Clock()
    made = started(tmp_path, clock).current
    assert f"{tmp_path / NAME} is not used, and replaced" in caplog.text
    assert started(tmp_path, clock).current == made


def test_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = tmp_path / "elsewhere"
    clock = Clock()
    (tmp_path / "state").mkdir()
    started(tmp_path, clock)
    (tmp_path / NAME).rename(elsewhere)
    (tmp_path / "state" / NAME).symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    started(tmp_path / "state", clock)
    assert "is not used, and replaced" in caplog.text
    assert elsewhere.read_bytes() == before
    assert not (tmp_path / "state" / NAME).is_symlink()


def test_keys_of_a_program_that_is_taken_over_are_used_and_their_age_goes_on(
    tmp_path: Path,
) -> None:
    clock = Clock()
    old = started(tmp_path, clock)
    clock.now += KEY_SECONDS - 10
    assert started(tmp_path, clock, old.current).current == old.current
    clock.now += 10
    # A start then has rotated them: they did not become young by the upgrade.
    assert started(tmp_path, clock).current.previous == (old.current.current,)


def test_keys_follow_the_history_and_stay_nowhere_else(tmp_path: Path) -> None:
    clock = Clock()
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    keys = started(old, clock)
    asyncio.run(keys.follow(new))
    assert not list(old.iterdir())
    assert started(new, clock).current == keys.current


def test_where_nothing_can_be_written_they_are_this_process_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    assert started(None, clock).current != started(None, clock).current
    assert not caplog.records
    started(tmp_path / "missing", clock)
    assert "will not outlive this process" in caplog.text
