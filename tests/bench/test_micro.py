"""``spooky bench micro`` measures every kernel, on both sides, and trusts no wrong answer."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from spooky import _core
from spooky.bench import kernels, micro
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.cases import CASES
from spooky.bench.programs import BenchError
from spooky.cli.progress import StatusLine


def bench_micro(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooky.cli.main", "bench", "micro", "--seconds=0"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_every_case_is_measured_on_every_side_that_has_it(tmp_path: Path) -> None:
    saved = tmp_path / "costs.json"
    done = bench_micro(f"--json={saved}")
    assert done.returncode == 0, done.stderr
    costs = json.loads(saved.read_text())
    for case in CASES:
        sides = {"pure"} - ({"pure"} if case.compiled_only else set())
        if _core.COMPILED:
            sides.add("compiled")
        assert set(costs[case.name]) == sides, case.name
        assert f"| {case.name} " in done.stdout
    assert all(cost >= 0 for sides in costs.values() for cost in sides.values())


def test_no_kernel_is_without_a_case() -> None:
    measured = {path.stem for path in Path(kernels.__path__[0]).glob("*.py")}
    # What a session of HTTP/3 or HTTP/2 consists of is measured as part of its server.
    parts = {
        "h3_wire", "h3_frames", "h3_fields", "h3_session", "h3_unidirectional", "h3_budget",
        "h3_server", "h3_client", "h2_client", "h2_gate", "h2_sender", "h2_stream",
    }  # fmt: skip
    # And what a request passes, as part of its exchange.
    of_exchange = {
        "terms", "admission", "access_record", "deadlines", "attempt", "accounts", "service",
        "hand_off",
    }  # fmt: skip
    # And what a connection and a turn of the loop are, as part of a worker.
    of_worker = {
        "turns", "dispatch", "arrivals", "opening", "client_connection", "quic_link", "tcp",
        "carrier", "authority",
    }  # fmt: skip
    assert set(_core.KERNELS) - measured == parts | of_exchange | of_worker
    assert len({case.name for case in CASES}) == len(CASES)


def test_words_choose_cases() -> None:
    done = bench_micro("QPACK", "hash_key")
    assert done.returncode == 0, done.stderr
    assert [line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]] == [
        "hash_key: 16 bytes", "hash_key: 64 bytes", "qpack scan: 15 fields",
    ]  # fmt: skip
    nothing = bench_micro("warp", "drive")
    assert nothing.returncode == 1
    assert "no case has warp or drive in its name" in nothing.stderr


def test_the_loop_is_subtracted_and_the_rest_divided_by_its_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0

    def pass_time(seconds: float) -> bool:
        nonlocal clock
        clock += seconds
        return True

    monkeypatch.setattr(micro.time, "perf_counter", lambda: clock)
    work = Work(
        run=pass_time, right=bool, calls=100, bare=lambda: pass_time(0.2), before=lambda: (0.7,)
    )
    cost = micro.measure(Case("a case", lambda: work), seconds=7.0)
    assert cost.ns == pytest.approx(5_000_000)
    assert cost.rounds == 10


def test_a_wrong_answer_is_not_timed_and_what_was_opened_is_closed() -> None:
    closed = []
    work = Work(run=lambda: 41, right=lambda result: result == 42, close=lambda: closed.append(1))
    with pytest.raises(BenchError, match="a case: the kernel's answer is wrong"):
        micro.measure(Case("a case", lambda: work), seconds=0.0)
    assert closed == [1]


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_of_a_terminal_and_nothing_elsewhere() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        line = StatusLine(stream)
        line.show("first")
        line.show("second")
        line.clear()
    assert terminal.getvalue() == "\r\x1b[Kfirst\r\x1b[Ksecond\r\x1b[K"
    assert file.getvalue() == ""
