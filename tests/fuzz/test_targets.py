"""Every fuzz target runs: over its seeds here, and guided by coverage for a moment."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = sorted(path.stem for path in Path("fuzz").glob("*.py") if path.stem[0] != "_")

SECONDS = 3


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_pass(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    seeds = list(target.seeds())
    assert len(seeds) >= 5
    for seed in seeds:
        target.run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_bounded_run_finds_nothing(name: str) -> None:
    command = [sys.executable, "-m", "fuzz", name, "--time", str(SECONDS), "--seed", "1"]
    result = subprocess.run(command, capture_output=True, check=False, timeout=100)
    assert result.returncode == 0, result.stderr[-4000:].decode(errors="replace")
    assert b"INITED cov: 0 " not in result.stderr, "nothing was instrumented"


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
def test_a_minute_guided_by_what_runs_in_the_kernels_finds_nothing(name: str) -> None:
    """`make fuzz`: the branches of kernels are counted, which atheris alone does not see."""
    command = [sys.executable, "tools/fuzz.py", name, "--time", "60"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:].decode(errors="replace")
    blocks = re.search(rb"DONE +cov: (\d+)", result.stderr)
    assert blocks is not None
    assert int(blocks[1]) > 100


def test_what_a_target_raises_is_found(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\0\0\x05\x1c\x01\0\0\0")
    command = [sys.executable, "-m", "fuzz", "quic_frames", str(tmp_path / "input")]
    assert subprocess.run(command, check=False, timeout=100).returncode == 0
    broken = "import fuzz.quic_frames as t; t.run = lambda data: 1 / 0; import fuzz.__main__ as m"
    broken += f"; import sys; sys.argv[1:] = ['quic_frames', {str(tmp_path / 'input')!r}]; m.main()"
    result = subprocess.run([sys.executable, "-c", broken], capture_output=True, check=False)
    assert result.returncode == 1
    assert b"ZeroDivisionError" in result.stderr
