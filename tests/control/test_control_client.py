"""What commands do while they wait, when they are refused, and when another program takes over."""

import contextlib
import io
import json
import re
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from spooky.cli import control_client, progress
from spooky.cli.main import run

SHOWN = re.compile(r"waiting for what the file says to come in force, \d+ s")
NOTHING_CHANGED = {
    "changed": False,
    "generation": {"number": 6, "source": "apply"},
    "probation": None,
}


def refusal(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Return an answer that says what is wrong."""
    return status, {"status": status, "code": code, "detail": f"it is {code}", **more}


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@contextlib.contextmanager
def answering(
    path: Path, *answers: tuple[int, dict[str, Any]], before: Callable[[], None] = lambda: None
) -> Iterator[list[str]]:
    """Run what gives these answers in turn, each after ``before``; give what it was asked."""
    asked: list[str] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            before()
            status, answer = left.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def address_string(self) -> str:
            return ""

    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_client, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "COUNT_SECONDS", 0.001)
    return tmp_path / "control.sock"


def test_a_program_that_was_handed_over_is_asked_again_until_the_other_answers(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = [refusal(503, "handed_over"), refusal(503, "starting")]
    with answering(path, *later, (200, NOTHING_CHANGED)) as asked:
        assert run(["reload", "--socket", str(path)]) == 0
    assert asked == ["/admin/runtime/reload"] * 3
    assert "generation 6 stays in force" in capsys.readouterr().out


def test_a_program_that_stays_handed_over_is_not_asked_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control_client, "AGAIN_SECONDS", control_client.ANSWER_SECONDS)
    with answering(path, refusal(503, "handed_over")) as asked:
        assert run(["reload", "--socket", str(path)]) == 1
    assert len(asked) == 1
    assert "it is handed_over" in capsys.readouterr().err


def test_an_upgrade_that_waited_for_another_is_not_made_again(path: Path) -> None:
    with answering(path, refusal(503, "handed_over")) as asked:
        assert run(["upgrade", "--socket", str(path)]) == 1
    assert len(asked) == 1


def test_what_is_refused_otherwise_is_not_asked_again(path: Path) -> None:
    with answering(path, refusal(503, "ending")) as asked:
        assert run(["reload", "--socket", str(path)]) == 1
    assert len(asked) == 1


PROBLEM = {
    "severity": "error", "file": "spooky.yaml", "line": 3, "column": 1, "path": "upstream",
    "message": "it is empty", "remedy": "list one",
}  # fmt: skip


@pytest.mark.parametrize(
    "answer", [refusal(412, "stale"), refusal(400, "invalid", problems=[PROBLEM])]
)
def test_programs_are_told_of_a_refusal_as_it_was_answered(
    path: Path, answer: tuple[int, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(path, answer):
        assert run(["reload", "--json", "--socket", str(path)]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == answer[1]
    assert out.count("\n") == 1
    assert ("it is empty" if "problems" in answer[1] else "it is stale") in err


def test_programs_are_told_of_what_nobody_answered(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--json", "--socket", str(path)]) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["code"] == "failed"
    assert f"no Spooky listens at {path}" in told["detail"]
    assert "spooky serve" in told["remedy"]
    assert told["detail"] in err
    # What people are told is not for programs.
    assert run(["status", "--socket", str(path)]) == 1
    assert capsys.readouterr().out == ""


def test_programs_are_told_what_was_taken_back_once(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probation = {"generation": 6, "verdict": "rolled_back", "reason": "5xx", "seconds_left": 0}
    with answering(path, (200, {**NOTHING_CHANGED, "changed": True, "probation": probation})):
        assert run(["apply", "x.yaml", "--json", "--socket", str(path)]) == 3
    assert json.loads(capsys.readouterr().out)["probation"]["verdict"] == "rolled_back"


def test_a_terminal_is_told_what_is_waited_for_and_is_left_clean(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def until_told() -> None:
        end = time.monotonic() + 10
        while not SHOWN.search(terminal.getvalue()) and time.monotonic() < end:
            time.sleep(0.001)

    with answering(path, (200, NOTHING_CHANGED), before=until_told):
        assert run(["reload", "--socket", str(path)]) == 0
    shown = terminal.getvalue()
    assert SHOWN.search(shown)
    assert shown.endswith("\r\x1b[K")


def test_programs_and_files_are_not_told_what_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with answering(path, (200, NOTHING_CHANGED)):
        assert run(["reload", "--json", "--socket", str(path)]) == 0
    monkeypatch.setattr(sys, "stderr", file)
    path.unlink()
    with answering(path, (200, NOTHING_CHANGED)):
        assert run(["reload", "--socket", str(path)]) == 0
    assert (terminal.getvalue(), file.getvalue()) == ("", "")
