"""What the program that hands over does when something goes wrong, before and after its end."""

import asyncio
import contextlib
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky.control import upgrade as upgrade_module
from spooky.control.takeover import (
    VERSION,
    Begin,
    Over,
    Prepared,
    Serving,
    TakeOverError,
    decode_from_new,
)
from spooky.control.upgrade import Upgrade, UpgradeError


class Successor:
    """A program that says what it is told to."""

    names: tuple[str, ...] = ()

    def __init__(self, _: list[str]) -> None:
        self.pid, self.killed = 1, False
        self.sent: list[object] = []
        Successor.last = self

    last: "Successor"

    def send(self, message: object, _: object) -> None:
        """Take a message."""
        self.sent.append(message)

    async def hear(self, kind: type, _: float) -> tuple[object, list[int]]:
        """Say what is waited for."""
        if kind is Serving:
            return Serving(), []
        return Prepared("9", (3,), self.names), [os.dup(0) for _ in self.names]

    def kill(self) -> None:
        """Note it."""
        self.killed = True

    close = kill


class Predecessor:
    """What fails to hand over."""

    kept = False

    def inheritance(self) -> tuple[object, dict[str, int]]:
        """Have nothing."""
        return "all", {}

    def may_hand_over(self) -> str:
        """Have no reason against it."""
        return ""

    def keep(self, *_: object) -> None:
        """Note it."""
        self.kept = True

    async def hand_over(self, *_: object) -> None:
        """Fail."""
        raise OSError("no memory")


def upgrade_with(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> tuple[Upgrade, Predecessor, Any]:
    monkeypatch.setattr(upgrade_module, "_Successor", Successor)
    monkeypatch.setattr(Successor, "names", names)
    changes = SimpleNamespace(halted=contextlib.nullcontext, ending=False)
    predecessor = Predecessor()
    return Upgrade(cast(Any, predecessor), cast(Any, changes)), predecessor, changes


def test_a_program_that_serves_outlives_what_goes_wrong_in_the_one_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade, predecessor, changes = upgrade_with(monkeypatch, ("inbox:3", "way:3", "process:3"))
    upgraded = asyncio.run(upgrade.run("other"))
    assert (upgraded.version, changes.ending) == ("9", True)
    successor = Successor.last
    assert successor.sent == ["all", Begin(), Over()]
    assert not successor.killed
    assert not predecessor.kept
    assert "no memory" in caplog.text


def test_a_program_that_does_not_name_the_ways_to_its_workers_is_refused_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upgrade, predecessor, changes = upgrade_with(monkeypatch, ("inbox:3",))
    with pytest.raises(UpgradeError, match="how its workers are reached"):
        asyncio.run(upgrade.run("other"))
    assert Successor.last.sent == ["all"]
    assert (Successor.last.killed, predecessor.kept, changes.ending) == (True, False, False)


def test_a_program_of_the_version_before_is_told_so() -> None:
    with pytest.raises(TakeOverError, match=f"in version 1 and the other in version {VERSION}:"):
        decode_from_new(b"\x01")
