"""A service that starts with an earlier generation, as its file is broken."""

import asyncio
from pathlib import Path

import pytest
import yaml

from spooky.cli import serve
from spooky.cli.main import run
from spooky.control.candidate import Candidate, read_candidate, restore_candidate
from spooky.control.change import Asked, UnknownGenerationError
from spooky.control.changes import Changes
from spooky.control.first_generation import Resumed, begin_with
from spooky.control.history import History, Record
from spooky.observe.segment import private_segment
from tests.support.proxy import configuration

ASKED = Asked("a test")
WATCHED = Asked("a test", probation_seconds=60.0)


class Service:
    """What runs, without processes, with a history on disk; started, ended and resumed."""

    def __init__(self, directory: Path) -> None:
        self.path, self.state = directory / "spooky.yaml", directory / "state"
        self.settings = configuration(directory, "https://127.0.0.1:1")
        self.history = History(self.state, 10)
        self.write(1, self.path)
        self._start()

    def _start(self, resumed: Record | None = None) -> None:
        if resumed is None:
            candidate, how = read_candidate(self.path), None
        else:
            candidate = restore_candidate(resumed.text, resumed.path)
            how = Resumed(resumed.number, str(self.path))
        candidate, record = begin_with(candidate, self.history, 0.0, how)
        self.changes = Changes(candidate, record, self.history, private_segment(), [])
        self.changes.starting = False

    async def serve(self) -> None:
        """Serve what it started with."""
        await self.changes.keep_first(inherited=False)

    def write(self, number: int, path: Path) -> None:
        """Write a file that is told from others by a number."""
        performance = {**self.settings["performance"], "backend_timeout_ms": 40_000 + number}
        path.write_text(yaml.safe_dump({**self.settings, "performance": performance}))

    async def resume(self) -> None:
        """End, have the file broken, and start again."""
        self.history.close()
        self.path.write_text("version: [")
        self.history = History(self.state, 10)
        found = self.history.newest_proven_of(str(self.path))
        assert found is not None
        self._start(found)
        await self.serve()

    @property
    def serves(self) -> int:
        """Which file is in force."""
        timeout: float = self.changes.running.configuration.performance.backend_timeout_ms
        return int(timeout) - 40_000


def test_going_back_from_what_was_resumed_never_leads_to_what_did_not_prove_itself(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        await service.serve()
        service.write(2, service.path)
        await service.changes.reload(ASKED)
        service.write(3, service.path)
        assert (await service.changes.reload(WATCHED)).record.unproven
        await service.resume()
        assert (service.changes.record.number, service.serves) == (4, 2)
        assert service.changes.record.origin == 2
        await service.changes.rollback(None, ASKED)
        assert service.serves == 1
        with pytest.raises(UnknownGenerationError, match="whose probation did not end well: 3; th"):
            await service.changes.rollback(None, ASKED)

    asyncio.run(scenario())


def test_a_mended_file_is_what_a_reload_reads_whichever_file_was_resumed(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        await service.serve()
        other = tmp_path / "good.yaml"
        service.write(2, other)
        await service.changes.apply(other, ASKED)
        await service.resume()
        assert service.serves == 2
        service.write(3, service.path)
        assert (await service.changes.reload(ASKED)).changed
        assert service.serves == 3
        # All of it is the service's, with what was applied.
        assert all(record.is_of(str(service.path)) for record in service.history)

    asyncio.run(scenario())


def test_the_history_of_another_file_is_not_resumed_unless_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        service = Service(tmp_path)
        await service.serve()
        service.history.close()

    asyncio.run(scenario())
    broken, state = tmp_path / "broken.yaml", tmp_path / "state"
    broken.write_text("version: [")
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    made: list[tuple[Candidate, Resumed]] = []
    monkeypatch.setattr(serve, "serve_until_stopped", lambda make, _: made.append(make()) or True)
    assert run(["serve", "--config", str(broken), "--resume"]) == 1
    assert made == []
    said = capsys.readouterr().err
    assert f"{broken} is broken, and the history in {state} is that of {tmp_path}" in said
    assert "spooky.yaml" in said
    assert "--state-dir" in said
    assert run(["serve", "--config", str(broken), "--resume", "--state-dir", str(state)]) == 0
    ((candidate, resumed),) = made
    assert candidate.path == str(tmp_path / "spooky.yaml")
    assert resumed == Resumed(1, str(broken))
