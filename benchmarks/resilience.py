"""Overload and a backend that dies: Spooky and Envoy before the same backends, in the same run.

Four backends, each a process that works at ten requests at once for 40 ms each: 1,000 requests a
second together, so that overload is real on two cores. The load is HTTP/3 and open: it comes
whatever becomes of it. Both proxies have outlier detection and retries, under overload an adaptive
limit (gradient), and are else what they are by default.

``make compare-resilience``, or ``python -m benchmarks.resilience [--seconds S] [--only CASE]
[--concurrency N]``: less concurrency where the machine has other work, which is less capacity.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from spooky.bench import processes
from spooky.bench.histogram import Histogram
from spooky.bench.plan import (
    Failed,
    Finished,
    Kind,
    LoadPlan,
    LoadResult,
    Progress,
    RequestPlan,
)
from spooky.bench.programs import (
    LOOPBACK,
    BenchError,
    find_program,
    free_port,
    running,
    working_directory,
)
from spooky.bench.proxies import (
    ENVOY_API,
    PEERS_REMEDY,
    PLENTY,
    Proxy,
    envoy_listener,
    make_certificate,
    wait_for_udp,
    write_configuration,
)

BACKENDS: Final = 4
CONCURRENCY: Final = 10
SERVICE_MS: Final = 40.0
CALM_SHARE: Final = 0.5
"""Of the capacity."""

KILLED_SHARE: Final = 0.6
"""Three of four backends can take it."""

OVERLOAD: Final = 5
CALM_SECONDS: Final = 8.0
KILL_AFTER_SECONDS: Final = 5.0
AFTERMATH_SECONDS: Final = 10.0
"""After the death of a backend errors are counted for so long."""

FIRST_SECONDS: Final = 2.0
"""Those of so long after it are told apart: later nobody should ask that backend any more."""

RECOVERY_SECONDS: Final = 2.0
WINDOW_SECONDS: Final = 5.0
"""Goodput has to be there in each time of so long."""

CONNECTIONS: Final = 16
STREAMS: Final = 100
WORKERS: Final = 2
MIB: Final = 1024 * 1024


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: What was measured.
        value: How it came out.
    """

    name: str
    value: str


class Backends:
    """The fleet.

    Arguments:
        concurrency: At how many requests each works at once.

    Attributes:
        ports: Where they listen.
        capacity: Requests a second of all together.
    """

    def __init__(self, concurrency: int) -> None:
        self.capacity = capacity_of(concurrency)
        kind = (str(concurrency), str(SERVICE_MS), "0")
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.fleet", *kind], stdout=subprocess.PIPE
            )
            for _ in range(BACKENDS)
        ]
        self.ports = [int(_first_line(process)) for process in self._processes]

    def kill(self, which: int) -> None:
        """Kill one as a machine dies: it closes nothing in good order."""
        self._processes[which].kill()
        self._processes[which].wait()

    def close(self) -> None:
        """Kill all."""
        for which in range(BACKENDS):
            self.kill(which)


def capacity_of(concurrency: int) -> float:
    """Return what all backends can take; requests/s."""
    return BACKENDS * concurrency / (SERVICE_MS / 1000)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@contextlib.contextmanager
def spooky(directory: Path, backends: Sequence[int], adaptive: bool) -> Iterator[Proxy]:
    """Run this Spooky, with an adaptive limit or without."""
    port = free_port()
    certificate, key = make_certificate(directory)
    configuration = {
        "version": 1,
        "listen": {"address": LOOPBACK, "port": port, "tls": {"cert": certificate, "key": key}},
        "upstream": {
            "backend": {
                "protocol": "http1",
                "route": {"path_prefix": "/"},
                "load_balancing": {"type": "least-request"},
                "backends": [
                    {"id": f"b{at}", "address": f"http://{LOOPBACK}:{each}"}
                    for at, each in enumerate(backends)
                ],
            }
        },
        "resilience": {"adaptive_admission": {"enabled": adaptive}},
        "access_log": {"enabled": False},
        "performance": {
            "worker_threads": WORKERS,
            **dict.fromkeys(
                (
                    "new_connections_per_sec",
                    "new_connections_burst",
                    "new_connections_per_source_per_sec",
                    "new_connections_per_source_burst",
                ),
                PLENTY,
            ),
        },
    }
    path = write_configuration(directory / "spooky.yaml", configuration)
    arguments = [sys.executable, "-m", "spooky.cli.main", "serve", "--config", path]
    with running("spooky", arguments, directory, _cores()) as program:
        yield Proxy("spooky", port, program)


@contextlib.contextmanager
def envoy(directory: Path, backends: Sequence[int], adaptive: bool) -> Iterator[Proxy]:
    """Run Envoy, with an adaptive limit or without."""
    found = find_program("envoy", PEERS_REMEDY)
    port = free_port()
    certificate, key = make_certificate(directory)
    limiter = {
        "name": "envoy.filters.http.adaptive_concurrency",
        "typed_config": {
            "@type": f"{ENVOY_API}.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
            "gradient_controller_config": {
                "sample_aggregate_percentile": {"value": 50},
                "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                "min_rtt_calc_params": {"interval": "30s", "request_count": 50},
            },
        },
    }
    retries = {
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
            "retriable_status_codes": [503],
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": (
                            f"{ENVOY_API}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        )
                    },
                }
            ],
            "host_selection_retry_max_attempts": 5,
        }
    }
    cluster = {
        "name": "backend",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "outlier_detection": {"max_ejection_percent": 33},
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": {
                                    "socket_address": {"address": LOOPBACK, "port_value": each}
                                }
                            }
                        }
                        for each in backends
                    ]
                }
            ],
        },
    }
    listener = envoy_listener(port, certificate, key, [limiter] if adaptive else [], retries)
    configuration = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    path = write_configuration(directory / "envoy.json", configuration)
    arguments = [found, "--config-path", path, "--concurrency", str(WORKERS)]
    arguments += ["--disable-hot-restart", "--log-level", "error"]
    with running("envoy", arguments, directory, _cores()) as program:
        yield Proxy("envoy", port, program)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


class Load(NamedTuple):
    """What came of load.

    Attributes:
        result: Of the whole.
        progress: What was done by when.
    """

    result: LoadResult
    progress: list[Progress]

    @property
    def goodput(self) -> float:
        """Requests that succeeded, in a second."""
        return self.result.requests / self.result.seconds

    @property
    def p99(self) -> float:
        """99th percentile of the latency of what succeeded; milliseconds."""
        return Histogram.of_buckets(self.result.latencies).percentile(0.99) / 1000

    def failed_by(self, seconds: float) -> int:
        """Return how many requests had failed by a time, as far as it was told then."""
        return next((one.failed for one in self.progress if one.seconds >= seconds), self.failed)

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.result.errors.values())

    @property
    def least(self) -> float:
        """Requests that succeeded in a second, in the worst window."""
        return min(
            (later.done - earlier.done) / (later.seconds - earlier.seconds)
            for earlier in self.progress
            for later in self.progress
            if WINDOW_SECONDS <= later.seconds - earlier.seconds < WINDOW_SECONDS + 1.0
        )


def load(
    proxy: Proxy,
    rate: float,
    seconds: float,
    warmup: float = 1.0,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Load:
    """Return what came of so much load, and tell of its progress meanwhile."""
    plan = LoadPlan(
        host=LOOPBACK,
        port=proxy.port,
        server_name="localhost",
        authority="localhost",
        kind=Kind.REQUESTS,
        connections=CONNECTIONS,
        streams=STREAMS,
        requests=(RequestPlan("/"),),
        seconds=seconds,
        warmup=warmup,
        rate=rate,
    )
    progress: list[Progress] = []
    with generating(plan) as lines:
        for line in lines:
            match msgspec.json.decode(line, type=Progress | Finished | Failed):
                case Progress() as one:
                    # What it said while warming up is not of the time that is measured.
                    progress = [*(progress if one.seconds else []), one]
                    watch(one)
                case Finished(result):
                    return Load(result, progress)
                case Failed(message):
                    raise BenchError(message)
    raise BenchError("the load ended early")


@contextlib.contextmanager
def generating(plan: LoadPlan) -> Iterator[Iterable[bytes]]:
    """Run the load generator, and yield the lines that it says."""
    arguments = [sys.executable, "-m", "spooky.bench.generator"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(plan))
        process.stdin.close()
        yield process.stdout


def killed(proxy: Proxy, backends: Backends, _: float) -> Iterator[Row]:
    """One of four backends is killed under load."""
    rate = KILLED_SHARE * backends.capacity
    calm = load(proxy, rate, CALM_SECONDS)
    deaths: list[Progress] = []

    def kill(progress: Progress) -> None:
        if progress.seconds >= KILL_AFTER_SECONDS and not deaths:
            backends.kill(1)
            deaths.append(progress)

    around = load(proxy, rate, KILL_AFTER_SECONDS + AFTERMATH_SECONDS, watch=kill)
    death = deaths[0]
    first = around.failed_by(death.seconds + FIRST_SECONDS) - death.failed
    after = around.failed - death.failed
    offered = rate * (KILL_AFTER_SECONDS + AFTERMATH_SECONDS - death.seconds)
    yield Row("errors before the death", str(death.failed))
    yield Row(f"in the first {FIRST_SECONDS:.0f} s after it", str(first))
    yield Row(
        f"in {AFTERMATH_SECONDS:.0f} s after it",
        f"{after} of {offered:,.0f} ({100 * after / offered:.3f} %)",
    )
    yield Row("by kind", _kinds(around))
    yield Row("goodput", f"{around.goodput:,.0f}/s")
    yield Row("p99 before", f"{calm.p99:.1f} ms")
    yield Row("p99 around the death", f"{around.p99:.1f} ms")


class Overload(NamedTuple):
    """What an overload did.

    Attributes:
        calm: Load that is half the capacity.
        over: Five times the capacity. The first seconds, in which the limit is found, count too.
        grown: Memory that all processes of the proxy took for it; bytes.
        after: Half the capacity again, from some seconds after the end on.
    """

    calm: Load
    over: Load
    grown: int
    after: Load


def overloaded(proxy: Proxy, backends: Backends, seconds: float) -> Overload:
    """Offer five times the capacity."""
    capacity = backends.capacity
    calm = load(proxy, CALM_SHARE * capacity, CALM_SECONDS)
    pids = processes.tree([proxy.program.pid])
    before = processes.resident_bytes(pids)
    over = load(proxy, OVERLOAD * capacity, seconds, warmup=0.0)
    grown = processes.resident_bytes(pids) - before
    after = load(proxy, CALM_SHARE * capacity, CALM_SECONDS, warmup=RECOVERY_SECONDS)
    return Overload(calm, over, grown, after)


def overload(proxy: Proxy, backends: Backends, seconds: float) -> Iterator[Row]:
    """Five times the capacity is offered."""
    calm, over, grown, after = overloaded(proxy, backends, seconds)
    share = 100 / backends.capacity
    yield Row("goodput", f"{over.goodput:,.0f}/s ({over.goodput * share:.0f} % of capacity)")
    yield Row(
        f"in the worst {WINDOW_SECONDS:.0f} s",
        f"{over.least:,.0f}/s ({over.least * share:.0f} % of capacity)",
    )
    yield Row("p99 unloaded", f"{calm.p99:.1f} ms")
    yield Row("p99 of the admitted", f"{over.p99:.1f} ms ({over.p99 / calm.p99:.1f} times)")
    yield Row("refused", _kinds(over))
    yield Row("memory grown", f"{grown / MIB:.1f} MiB")
    yield Row("then", _load_average())
    yield Row(f"errors from {RECOVERY_SECONDS:.0f} s after", _kinds(after))
    yield Row("p99 then", f"{after.p99:.1f} ms")


def _kinds(load: Load) -> str:
    return ", ".join(f"{what}: {count}" for what, count in load.result.errors.items()) or "0"


def _load_average() -> str:
    return f"load of the machine {os.getloadavg()[0]:.1f}"


Case = Callable[[Proxy, Backends, float], Iterator[Row]]

CASES: Final[dict[str, Case]] = {"killed": killed, "overload": overload}
PROXIES: Final = {"spooky": spooky, "envoy": envoy}


def measure(case: Case, seconds: float, concurrency: int) -> dict[str, list[Row]]:
    """Return what a case says of each proxy, one after the other."""
    found = {}
    for name, start in PROXIES.items():
        with working_directory() as directory:
            backends = Backends(concurrency)
            try:
                with start(directory, backends.ports, case is overload) as proxy:
                    wait_for_udp(proxy)
                    time.sleep(1.0)
                    found[name] = list(case(proxy, backends, seconds))
            finally:
                backends.close()
    return found


def show(title: str, found: dict[str, list[Row]]) -> None:
    """Print a table in Markdown."""
    print(f"\n| {title} | {' | '.join(found)} |\n| --- |{' --- |' * len(found)}", flush=True)
    for rows in zip(*found.values(), strict=True):
        print(f"| {rows[0].name} | {' | '.join(row.value for row in rows)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="of each backend")
    chosen: Any = parser.parse_args()
    capacity = capacity_of(chosen.concurrency)
    print(f"{BACKENDS} backends, {capacity:.0f} requests/s together; {_load_average()}")
    for name, case in CASES.items():
        if chosen.only in (None, name):
            found = measure(case, chosen.seconds, chosen.concurrency)
            show((case.__doc__ or "").rstrip("."), found)


if __name__ == "__main__":
    main()
