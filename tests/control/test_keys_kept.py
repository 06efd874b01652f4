"""The keys of tickets, tokens and resets: rotated, and kept for the next start."""

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
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


def opened(
    directory: Path | None,
    clock: Clock,
    inherited: Keys | None = None,
    tell: Callable[[Keys], None] = lambda _: None,
    still: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> SharedKeys:
    keys = SharedKeys(inherited, tell, still, clock)
    keys.open(directory)
    return keys


def started(directory: Path | None, clock: Clock, inherited: Keys | None = None) -> SharedKeys:
    """Return the keys of a program that serves."""
    keys = opened(directory, clock, inherited)
    asyncio.run(keys.save())
    return keys


def kept_of(keys: SharedKeys) -> tuple[object, ...]:
    """Return what is in the file of them."""
    current = keys.current
    return current.number, current.current, current.previous, current.fixed


def test_the_next_start_has_the_same_keys_in_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    clock = Clock()
    first = started(tmp_path, clock)
    clock.now += KEY_SECONDS - 1
    assert kept_of(started(tmp_path, clock)) == kept_of(first)
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
    assert started(tmp_path, clock).current.current == second.current


def test_rotations_go_on_after_a_restart_are_told_and_kept(tmp_path: Path) -> None:
    clock = Clock()
    first = started(tmp_path, clock).current
    clock.now += KEY_SECONDS - 0.01
    told: list[Keys] = []

    async def scenario() -> None:
        keys = opened(tmp_path, clock, tell=told.append)
        assert keys.current.current == first.current
        running = asyncio.ensure_future(keys.run())
        clock.now += 0.01
        before = (tmp_path / NAME).read_bytes()
        while (tmp_path / NAME).read_bytes() == before:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert started(tmp_path, clock).current.current == told[0].current
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
    assert started(tmp_path, clock).current.current == made.current


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
    keys.move(new)
    assert not list(old.iterdir())
    asyncio.run(keys.save())
    assert kept_of(started(new, clock)) == kept_of(keys)


def test_keys_that_moved_while_they_were_written_are_only_where_they_are_to_be(
    tmp_path: Path,
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    keys = opened(old, Clock())

    async def scenario() -> None:
        saving = asyncio.ensure_future(keys.save())
        await asyncio.sleep(0)
        keys.move(new)
        await asyncio.gather(saving, keys.save())

    asyncio.run(scenario())
    assert not list(old.iterdir())
    assert [path.name for path in new.iterdir()] == [NAME]


def test_a_program_that_does_not_come_to_serve_leaves_the_file_alone(tmp_path: Path) -> None:
    clock = Clock()
    started(tmp_path, clock)
    before = (tmp_path / NAME).read_bytes()
    opened(tmp_path, clock, Keys.generate())
    clock.now += 3 * KEY_SECONDS
    opened(tmp_path, clock)
    assert (tmp_path / NAME).read_bytes() == before


def test_nothing_is_rotated_while_another_program_takes_over(tmp_path: Path) -> None:
    """It has the keys of then; what were sealed under newer ones it could not open."""
    clock = Clock()
    told: list[Keys] = []
    taking_over = asyncio.Lock()

    @asynccontextmanager
    async def still() -> AsyncIterator[None]:
        async with taking_over:
            yield

    async def scenario() -> None:
        keys = opened(tmp_path, clock, tell=told.append, still=still)
        async with taking_over:
            clock.now += KEY_SECONDS
            running = asyncio.ensure_future(keys.run())
            await asyncio.sleep(0.1)
            assert not told
        while not told:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_what_speaks_for_a_client_is_in_no_file(tmp_path: Path) -> None:
    clock = Clock()
    first = started(tmp_path, clock).current
    second = started(tmp_path, clock).current
    assert second.derived("ticket") == first.derived("ticket")
    assert not set(second.derived_unkept("ticket")) & set(first.derived_unkept("ticket"))
    rotated = first.rotated(bytes(32))
    assert rotated.derived_unkept("ticket")[1] == first.derived_unkept("ticket")[0]


def test_where_nothing_can_be_written_they_are_this_process_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    assert started(None, clock).current != started(None, clock).current
    assert not caplog.records
    started(tmp_path / "missing", clock)
    assert "may not outlive this process" in caplog.text
