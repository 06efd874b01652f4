"""Every fuzz target runs guided by coverage, for a number of inputs that is always the same."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.test_seeds import TARGETS

INPUTS = 2000

INPUTS_OF_SLOW = 150
SLOW = frozenset((
    "ack_ranges", "early_packets", "packet_numbers", "quic_frames", "quic_initial",
    "tls_messages", "transport_parameters",
))  # fmt: skip
"""Those that shake hands for each input: some ten in a second."""

INPUTS_OF_SESSIONS = 400
SESSIONS = frozenset((
    "address_tokens", "admin_requests", "configuration", "exchanges", "http1_requests",
    "http1_responses", "http2_requests", "http3_settings", "server_flights",
))  # fmt: skip


def inputs_of(name: str) -> int:
    """Return how many inputs a target gets, its seeds among them."""
    if name in SLOW:
        return INPUTS_OF_SLOW
    return INPUTS_OF_SESSIONS if name in SESSIONS else INPUTS


def fuzz(name: str) -> tuple[str, int, bytes]:
    """Run a target, and return its name, its status and what it said."""
    command = [sys.executable, "-m", "fuzz", name, "--runs", str(inputs_of(name)), "--seed", "1"]
    result = subprocess.run(command, capture_output=True, check=False, timeout=200)
    return name, result.returncode, result.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize("names", [TARGETS[at : at + 6] for at in range(0, len(TARGETS), 6)])
def test_a_bounded_pass_finds_nothing(names: list[str]) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, status, said in pool.map(fuzz, names):
            assert status == 0, f"{name}: {said[-4000:].decode(errors='replace')}"
            assert b"INITED cov: 0 " not in said, f"{name}: nothing was instrumented"


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
    assert int(blocks[1]) > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], rb"there is no target 'nonsense'; there are: ack_ranges, .*worker_messages"),
        (["routes", "--time", "1m"], rb"'1m' is no time: write whole seconds"),
        (["routes", "--time", "0"], rb"'0' is no time"),
    ],
)
def test_what_make_fuzz_cannot_do_it_says_at_once(arguments: list[str], said: bytes) -> None:
    command = [sys.executable, "tools/fuzz.py", *arguments]
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert result.returncode == 2
    assert re.search(said, result.stderr, re.DOTALL), result.stderr


def test_what_a_target_raises_is_found(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"\0\0\x05\x1c\x01\0\0\0")
    command = [sys.executable, "-m", "fuzz", "quic_frames", str(tmp_path / "input")]
    assert subprocess.run(command, check=False, timeout=100).returncode == 0
    broken = "import fuzz.quic_frames as t; t.run = lambda data: 1 / 0; import fuzz.__main__ as m"
    broken += f"; import sys; sys.argv[1:] = ['quic_frames', {str(tmp_path / 'input')!r}]; m.main()"
    result = subprocess.run([sys.executable, "-c", broken], capture_output=True, check=False)
    assert result.returncode == 1
    assert b"ZeroDivisionError" in result.stderr
