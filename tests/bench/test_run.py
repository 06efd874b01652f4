"""Short runs of ``spooky bench run``, with real proxies and the real backend."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky import _core
from spooky.bench.backend import backend
from spooky.bench.proxies import Setting, spooky, wait_for_udp
from spooky.bench.scenarios import SCENARIOS

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not _core.COMPILED, reason="the load generator is not compiled"),
]

PEERS = ("caddy", "envoy")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooky.cli.main", "bench", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


def test_two_workers_share_the_connections(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    done = bench(
        "--scenario=handshakes", "--workers=2", "--rounds=1", "--seconds=0.7", f"--json={saved}"
    )
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(saved.read_text())["scenarios"]
    assert measured["setup"]["workers"] == 2
    counts = measured["proxies"][0]["connections_by_worker"]
    total = sum(counts.values())
    assert total > 50
    assert set(counts) == {"0", "1"}
    assert all(0.3 < count / total < 0.7 for count in counts.values())


@contextlib.contextmanager
def target(directory: Path) -> Iterator[str]:
    """A server that is there already; give its URL."""
    cores = sorted(os.sched_getaffinity(0))
    with (
        backend(directory, {1024}, cores[-1]) as port,
        spooky(Setting(directory, port, 1, cores[:1])) as proxy,
    ):
        wait_for_udp(proxy)
        yield f"https://localhost:{proxy.port}"


def test_a_target_gets_the_load_at_its_path(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    with target(tmp_path) as url:
        done = bench(
            "--scenario=upload,slow,loss", f"--target={url}/1024?where=1", "--connections=2",
            "--rounds=1", "--seconds=0.5", f"--json={saved}",
        )  # fmt: skip
        missing = bench("--scenario=small", f"--target={url}/missing", "--rounds=1", "--seconds=1")
    assert done.returncode == 0, done.stderr
    for scenario in json.loads(saved.read_text())["scenarios"]:
        assert f"{url}/1024?where=1" in scenario["setup"]["about"]
        (proxy,) = scenario["proxies"]
        assert (proxy["name"], proxy["errors"]) == ("target", {})
        assert proxy["medians"]["requests_per_second"] > 0
        assert proxy["medians"]["proxy_cores"] is None
    assert "worker" not in done.stdout
    assert missing.returncode == 1
    assert "no request succeeded: status 404" in missing.stderr


def test_a_target_that_nobody_listens_at_is_told_at_once() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = bench("--scenario=small", f"--target=https://127.0.0.1:{port}/")
    assert done.returncode == 1
    assert f"port {port} were not established: Connection refused" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target=https://localhost/", "--workers=2"], "--workers is about proxies"),
        (["--target=https://localhost/", "--against=caddy"], "nothing for --against"),
        (["--target=https://localhost/", "--scenario=idle"], "--target does not see"),
        (["--scenario=tiny"], "there is no scenario 'tiny'"),
        (["--against=nginx"], "there is no peer 'nginx'"),
        (["--scenario=handshakes", "--rate=5"], "makes none"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
