"""``spooky bench`` before it measures."""

import errno
import os
from pathlib import Path
from typing import Any

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
    # Root may write and look everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert f"{tmp_path / 'run.json'} may not be written" in said(tmp_path / "run.json")
    look = os.stat

    def may_not_look(path: Path, **options: Any) -> os.stat_result:
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "stat", may_not_look)
    assert f"{tmp_path / 'run.json'} may not be written" in said(tmp_path / "run.json")
