"""The Prometheus endpoint, of a supervisor and of an embedded proxy."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

import spooky
from spooky import config
from spooky._core import COMPILED
from spooky.config.observability import Metrics
from spooky.control.metrics_server import MetricsServer
from spooky.observe.counters import Counters
from spooky.observe.metrics import TABLE, Fact
from tests.control.serve import served
from tests.support.origin import Origin
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES, configuration, connect, run
from tests.support.scraping import scrape, sums

WORKERS = 3 if COMPILED else 1
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def test_what_all_workers_did_is_on_one_page(tmp_path: Path) -> None:
    port = free_port()

    def with_metrics(settings: dict[str, Any]) -> None:
        settings["observability"] = {"metrics": {"enabled": True, "required": True, "port": port}}

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, with_metrics) as proxy:
            clients = [await proxy.client(INGRESSES[n % 3]) for n in range(6 * WORKERS)]
            for client in clients:
                response = await client.fetch("POST", "/echo", body=b"12345")
                assert response.body == b"12345"
            await clients[0].fetch("GET", "/status/404")
            page = await scrape(port)
            while sums(page, "spooky_requests_total") < 6 * WORKERS + 1:
                page = await scrape(port)
            ends = {"upstream": "backend", "backend": "one", "reason": "completed"}
            requests = "spooky_requests_total"
            assert sums(page, requests, status_class="2xx", **ends) == 6 * WORKERS
            assert sums(page, requests, status_class="4xx", **ends) == 1
            assert sums(page, requests, protocol="h2") == 2 * WORKERS
            assert sums(page, "spooky_request_body_bytes_total") == 30 * WORKERS
            duration = "spooky_request_duration_seconds"
            assert sums(page, f"{duration}_count", upstream="backend") == 6 * WORKERS + 1
            assert 0 < sums(page, f"{duration}_sum") < 60
            assert sums(page, f"{duration}_bucket", le="60.0") == 6 * WORKERS + 1
            assert sums(page, "spooky_workers") == WORKERS
            assert sums(page, "spooky_worker_restarts_total") == 0
            assert sums(page, "spooky_generation") == 1
            assert sums(page, "spooky_certificate_expiry_seconds") > sums(
                page, "spooky_start_time_seconds"
            )
            assert sums(page, "spooky_process_resident_memory_bytes", process="worker-0") > 1e6
            assert sums(page, "spooky_process_cpu_seconds_total", process="supervisor") > 0
            assert sums(page, "spooky_connections_total") == 6 * WORKERS
            handshakes = "spooky_handshake_duration_seconds_count"
            assert sums(page, handshakes, transport="quic") == 2 * WORKERS
            assert sums(page, handshakes, transport="tcp") == 4 * WORKERS
            ended = {"upstream": "backend", "outcome": "success"}
            assert sums(page, "spooky_upstream_requests_total", **ended) == 6 * WORKERS + 1
            assert sums(page, "spooky_backend_requests_total", **ended) == 6 * WORKERS + 1
            assert sums(page, "spooky_worker_requests_total") == 6 * WORKERS + 1
            assert sums(page, "spooky_downstream_tls_alpn_total", protocol="h3") == 2 * WORKERS
            assert sums(page, "spooky_downstream_tls_alpn_total", protocol="h2") == 2 * WORKERS
            assert sums(page, "spooky_downstream_tls_handshake_success_total") == 6 * WORKERS
            assert sums(page, "spooky_route_requests_total", route="backend") == 6 * WORKERS + 1
            latency = "spooky_upstream_request_latency_ms_bucket"
            assert sums(page, latency, le="60000.0") == 6 * WORKERS + 1
            assert sums(page, "spooky_downstream_tls_certificate_days_remaining") > 0
            assert sums(page, "spooky_runtime_active_generation") == 1
            assert sums(page, "spooky_runtime_history_depth") == 1
            for name in ("runtime_activation_total", "control_api_audit_write_failures_total"):
                assert f"\nspooky_{name}" in page
                assert sums(page, f"spooky_{name}") == 0
            assert "spooky_request_buffered_high_watermark_bytes" in page
            assert "spooky_requests_in_flight{" in page
            assert sums(page, "spooky_requests_in_flight") == 0
            assert sums(page, "spooky_requests_in_flight_limit", scope="backend") == 1024
            assert sums(page, "spooky_process_open_fds", process="worker-0") > 3
            assert sums(page, "spooky_process_max_fds", process="worker-0") > 100
            open_page = await scrape(port, accept=OPENMETRICS)
            families = {family.name for family in openmetrics(open_page)}
            assert "spooky_requests" in families
            # Workers are sent nothing for a page: they need not even run.
            pids = proxy.workers
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                page = await scrape(port)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            assert sums(page, "spooky_worker_requests_total") == 6 * WORKERS + 1

    run(scenario)


def test_an_embedded_proxy_serves_metrics_too(tmp_path: Path) -> None:
    port = free_port()

    async def scenario() -> None:
        async with Origin("h1", None) as origin:
            settings = configuration(tmp_path, origin.address)
            settings["observability"] = {"metrics": {"enabled": True, "port": port}}
            async with spooky.Proxy(settings) as proxy:
                client = await connect("h2", proxy.port)
                await client.fetch("GET", "/echo")
                await client.close()
                page = await scrape(port)
                assert sums(page, "spooky_requests_total", protocol="h2") == 1
                assert sums(page, "spooky_process_resident_memory_bytes", process="embedded") > 0
            with pytest.raises(OSError, match=r"refused|Connect"):
                await scrape(port)

    run(scenario)


@contextlib.asynccontextmanager
async def serving(**settings: Any):
    counters = Counters()
    counters.values[counters.slot("datagrams_sent_total")] += 3
    facts = [Fact("workers", "Worker processes.", 1)]
    server = MetricsServer(Metrics(port=0, **settings), counters.segment, lambda: facts)
    await server.start()
    try:
        yield server, counters
    finally:
        await server.close()


async def status(port: int, method: str, path: str) -> int:
    async with (
        ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status


def test_other_paths_and_methods_are_refused() -> None:
    async def scenario() -> None:
        async with serving(path="/m") as (server, _):
            port = server.address[1]
            assert await status(port, "GET", "/m") == 200
            assert await status(port, "HEAD", "/m?x=1") == 200
            assert await status(port, "GET", "/metrics") == 404
            assert await status(port, "POST", "/m") == 405

    run(scenario)


def test_connections_beyond_the_limit_are_closed_and_old_ones_after_their_time() -> None:
    async def scenario() -> None:
        async with serving(max_connections=2, connection_timeout_ms=300) as (server, _):
            held = [await asyncio.open_connection(*server.address) for _ in range(2)]
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection(*server.address)
            assert await reader.read() == b""
            writer.close()
            for reader, writer in held:
                assert await reader.read() == b""
                writer.close()
            assert await status(server.address[1], "GET", "/metrics") == 200

    run(scenario)


@pytest.mark.parametrize("required", [False, True])
def test_a_port_in_use_ends_the_start_only_where_metrics_are_required(required: bool) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings = Metrics(enabled=True, required=required, port=taken.getsockname()[1])
            server = MetricsServer(settings, Counters().segment, tuple)
            if required:
                with pytest.raises(spooky.BindError, match="in use"):
                    await server.start()
            else:
                await server.start()
            assert server.address is None
            await server.close()

    run(scenario)


def test_labels_that_hold_anything_are_exposed_whole() -> None:
    async def scenario() -> None:
        async with serving() as (server, counters):
            name = 'a"b\\c\nd é'
            labels = {"upstream": name, "reason": "of another version"}
            counters.values[counters.slot("requests_total", labels)] += 2
            page = await scrape(server.address[1])
            assert sums(page, "spooky_requests_total", upstream=name) == 2
            assert sums(page, "spooky_upstream_requests_total") == 0

    run(scenario)


def test_every_metric_of_the_table_is_counted_somewhere() -> None:
    sources = "".join(path.read_text() for path in Path("spooky").rglob("*.py"))
    unused = [metric.name for metric in TABLE if sources.count(metric.name) < 2]
    assert [name for name in unused if name != "metrics_overflow_total"] == []


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"address": "0.0.0.0"}, "address"),
        ({"address": "::"}, "address"),
        ({"address": "localhost"}, "address"),
        ({"path": "metrics"}, "path"),
        ({"path": "/m?x"}, "path"),
        ({"enabled": False, "required": True}, "required"),
    ],
)
def test_settings_that_make_no_sense_are_errors(
    tmp_path: Path, settings: dict[str, Any], path: str
) -> None:
    whole = configuration(tmp_path, "http://127.0.0.1:1")
    whole["observability"] = {"metrics": {"enabled": True, **settings}}
    with pytest.raises(spooky.ConfigurationError, match=f"observability.metrics.{path}: "):
        config.from_mapping(whole)
    whole["observability"] = {"metrics": {"address": "0.0.0.0", "allow_non_loopback": True}}
    config.from_mapping(whole)
