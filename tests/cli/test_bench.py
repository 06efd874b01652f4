"""``spooky bench`` before it measures."""

import os
from pathlib import Path

import pytest

from spooky.cli.main import run


# What is wrong besides would be said when the measuring begins.
@pytest.mark.parametrize("words", [("run", "--scenario=none"), ("micro", "no such operation")])
def test_a_place_that_is_none_is_said_before_anything_else(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def said(path: Path) -> str:
        assert run(["bench", *words, f"--json={path}"]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    missing = tmp_path / "not there" / "run.json"
    assert f"there is no directory {missing.parent}" in said(missing)
    assert f"mkdir -p '{missing.parent}'" in said(missing)
    assert f"{tmp_path} is a directory" in said(tmp_path)
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert f"{tmp_path / 'run.json'} may not be written" in said(tmp_path / "run.json")
