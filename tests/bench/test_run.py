"""Short runs of ``spooky bench run``, with real proxies and the real backend."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooky import _core
from spooky.bench import document
from spooky.bench.backend import backend
from spooky.bench.document import ProxyRun, ScenarioRun
from spooky.bench.figures import Figures
from spooky.bench.proxies import Setting, spooky, wait_for_udp
from spooky.bench.scenarios import SCENARIOS
from tests.support.ports import free_port

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky.bench.campaign import Options, setup_of

pytestmark = pytest.mark.interop

PEERS = ("caddy", "envoy")


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spooky.cli.main", "bench", "run", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_spooky_and_its_peers_take_turns_and_every_figure_is_there(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    done = bench(
        "--scenario=small", f"--against={','.join(PEERS)}", "--rounds=1", "--seconds=0.5",
        f"--json={saved}", f"--html={tmp_path / 'report.html'}",
        STATE_DIRECTORY=str(tmp_path / "state"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # The history is that of a Spooky that serves here.
    assert not (tmp_path / "state").exists()
    assert (tmp_path / "report.html").read_text().count("<svg") == 4
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


def saved_run(path: Path, requests_per_cpu_second: float) -> None:
    """Save what five rounds of ``small`` might have shown."""
    setup = setup_of(SCENARIOS["small"], Options((), seconds=0.1))
    figures = Figures(requests_per_cpu_second=requests_per_cpu_second)
    proxy = ProxyRun(
        name="spooky", rounds=[figures] * 5, medians=figures, spread={}, latencies=[], errors={},
        connections_by_worker={},
    )  # fmt: skip
    run = ScenarioRun(setup=setup, proxies=[proxy], ratios={}, warnings=[])
    document.save(document.document([run]), path)


def test_a_run_that_is_worse_than_a_saved_one_fails(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    arguments = ["--scenario=small", "--rounds=5", "--seconds=0.1", f"--compare={saved}"]
    saved_run(saved, 10.0**7)
    worse = bench(*arguments)
    assert worse.returncode == 3, worse.stderr
    assert "relative" not in worse.stdout
    assert "WORSE, 99.6% sure that it is more than 5%" in worse.stdout
    assert f"figures that are worse than in {saved}: 1" in worse.stderr
    other = bench(*arguments, "--connections=3")
    assert other.returncode == 1
    assert "small: connections was 10, and is 3" in other.stderr
    saved.write_text("{}")
    broken = bench(*arguments)
    assert broken.returncode == 1
    assert "is not a saved run" in broken.stderr


def test_two_workers_share_the_connections(tmp_path: Path) -> None:
    saved = tmp_path / "run.json"
    done = bench(
        "--scenario=handshakes", "--workers=2", "--rounds=1", "--seconds=1.5", f"--json={saved}"
    )
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(saved.read_text())["scenarios"]
    assert measured["setup"]["workers"] == 2
    counts = measured["proxies"][0]["connections_by_worker"]
    total = sum(counts.values())
    assert set(counts) == {"0", "1"}
    # Chance shares out few connections, which are all that a busy machine makes, less evenly.
    assert all(abs(count / total - 0.5) < 0.2 + total**-0.5 for count in counts.values())


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
        opened = bench(
            "--scenario=small", f"--target={url}/1024", "--rate=200", "--rounds=1", "--seconds=0.5",
            f"--json={tmp_path / 'open.json'}",
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
    assert opened.returncode == 0, opened.stderr
    (scenario,) = json.loads((tmp_path / "open.json").read_text())["scenarios"]
    # However slow the machine is, each request that was due is there.
    counts = [count for _, count in scenario["proxies"][0]["latencies"]]
    assert sum(counts) == pytest.approx(100, abs=2)
    assert missing.returncode == 1
    assert "no request succeeded: status 404" in missing.stderr


def test_a_place_that_is_not_there_is_said_before_the_run(tmp_path: Path) -> None:
    done = bench("--rounds=1000", f"--json={tmp_path / 'none' / 'run.json'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"there is no directory {tmp_path / 'none'}" in done.stderr


def test_a_target_that_nobody_listens_at_is_told_at_once() -> None:
    port = free_port()
    done = bench("--scenario=small", f"--target=https://127.0.0.1:{port}/")
    assert done.returncode == 1
    assert f"port {port} were not established: Connection refused" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target=https://localhost/", "--workers=2"], "--workers is about proxies"),
        (["--target=https://localhost/", "--against=caddy"], "nothing for --against"),
        (["--target=https://localhost/", "--scenario=idle"], "--target does not see"),
        (["--tolerance=3"], "--tolerance is about --compare"),
        (["--scenario=tiny"], "there is no scenario 'tiny'"),
        (["--against=nginx"], "there is no peer 'nginx'"),
        (["--scenario=handshakes", "--rate=5"], "makes none"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
