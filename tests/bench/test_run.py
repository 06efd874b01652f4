"""Short runs of ``spooky bench run``, with real proxies and the real backend."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spooky import _core
from spooky.bench.scenarios import SCENARIOS

pytestmark = pytest.mark.interop

PEERS = ("caddy", "envoy")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooky.cli.main", "bench", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not _core.COMPILED, reason="the load generator is not compiled")
def test_spooky_and_its_peers_take_turns_and_every_figure_is_there(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    done = bench(
        "--scenario=small", f"--against={','.join(PEERS)}", "--rounds=1", "--seconds=0.5",
        f"--json={saved}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (scenario,) = json.loads(saved.read_text())["scenarios"]
    assert [proxy["name"] for proxy in scenario["proxies"]] == ["spooky", *PEERS]
    for proxy in scenario["proxies"]:
        assert proxy["errors"] == {}
        figures = proxy["medians"]
        assert figures["requests_per_cpu_second"] > 100
        assert figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_max_ms"]
        assert 10 < figures["peak_memory_mb"] < 2000
    assert set(scenario["ratios"]) == set(PEERS)
    assert "better than caddy" in done.stdout


@pytest.mark.skipif(not _core.COMPILED, reason="the load generator is not compiled")
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_scenario_runs(tmp_path: Path, scenario: str) -> None:
    saved = tmp_path / "run.json"
    done = bench(
        f"--scenario={scenario}", "--connections=4", "--rounds=1", "--seconds=0.5",
        f"--json={saved}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(saved.read_text())["scenarios"]
    (proxy,) = measured["proxies"]
    assert proxy["errors"] == {}
    assert proxy["medians"][SCENARIOS[scenario].headline.value] != 0
