"""Health of backends: thresholds and cooldown, panic routing, and checks of real backends."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from spooky._core.balance import RoundRobin
from spooky._core.reasons import TABLE
from spooky.config.health import HealthCheck
from spooky.observe.segment import private_segment
from spooky.runtime import Runtime
from spooky.upstream.dial import DialSettings
from spooky.upstream.health import BackendHealth, CheckState, UpstreamHealth, backend_words
from spooky.upstream.origin import Origin as Address
from spooky.upstream.probe import (
    CheckError,
    CheckInconclusive,
    grpc_request,
    judge_grpc,
    judge_http,
    probe,
)
from spooky.upstream.quic import Http3Settings
from spooky.upstream.resolver import SystemResolver
from tests.support.origin import Origin
from tests.support.proxy import run, running


def test_a_backend_is_judged_by_results_in_a_row_and_comes_back_after_its_cooldown() -> None:
    state = CheckState(HealthCheck(failure_threshold=2, success_threshold=2, cooldown_ms=1000))
    state.failed(0.0)
    state.succeeded(0.1)
    state.failed(0.2)
    assert state.healthy
    state.failed(0.3)
    assert not state.healthy
    state.succeeded(1.2)  # Within the cooldown: does not count.
    state.succeeded(1.4)
    assert not state.healthy
    state.failed(1.5)  # Anew.
    for now in (2.4, 2.6):
        state.succeeded(now)
    assert not state.healthy
    state.succeeded(2.7)
    assert state.healthy


def test_the_next_check_of_a_failing_backend_comes_later() -> None:
    state = CheckState(HealthCheck(interval=1000))
    delays = []
    for _ in range(4):
        delays.append(state.delay)
        state.failed(0.0)
    assert delays == [1.0, 2.0, 4.0, 4.0]
    state.succeeded(0.0)
    assert state.delay == 1.0


@pytest.mark.parametrize(
    ("failing", "threshold", "chosen"),
    [
        (set(), 50, {0, 1, 2, 3}),
        ({0}, 50, {1, 2, 3}),
        ({0, 1}, 50, {2, 3}),
        ({0, 1, 2}, 50, {0, 1, 2, 3}),
        ({0, 1, 2}, 25, {3}),
        ({0, 1, 2}, 0, {3}),
        ({0}, 100, {0, 1, 2, 3}),
        ({0, 1, 2, 3}, 50, {-1}),
    ],
)
def test_backends_that_cannot_serve_get_no_requests_unless_too_few_are_left(
    failing: set[int], threshold: int, chosen: set[int]
) -> None:
    segment = private_segment()
    balancer = RoundRobin([b"a", b"b", b"c", b"d"], [1] * 4)
    backends = {at: BackendHealth(segment, "api", name) for at, name in enumerate("abcd")}
    upstream = UpstreamHealth(balancer, backends, threshold)
    for at in failing:
        # As another process says it.
        BackendHealth(segment, "api", "abcd"[at]).set_failing(True, 0.0)
    upstream.apply(0.0)
    assert {balancer.pick() for _ in range(40)} == chosen
    for one in backends.values():
        one.set_failing(False, 0.0)
    upstream.apply(0.0)
    assert {balancer.pick() for _ in range(40)} == {0, 1, 2, 3}


def test_an_ejection_for_a_reason_that_the_table_lacks_is_none() -> None:
    segment = private_segment()
    words = backend_words(segment, "health", "api", "one")
    assert words is not None
    for code in (len(TABLE) + 1, 2**64 - 1):
        words.store(1, code)
        assert BackendHealth(segment, "api", "one").can_serve
    words.store(1, len(TABLE))
    assert BackendHealth(segment, "api", "one").ejected_for is TABLE[-1]


def test_what_is_said_twice_is_no_change() -> None:
    segment = private_segment()
    health = BackendHealth(segment, "api", "a")
    versions = []
    for failing in (False, True, True, False, False):
        health.set_failing(failing, 0.0)
        versions.append(segment.health_version)
    assert versions == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("check", "status", "body", "raises"),
    [
        (HealthCheck(), 200, b"", None),
        (HealthCheck(), 301, b"", None),
        (HealthCheck(), 404, b"", CheckInconclusive),
        (HealthCheck(), 503, b"", CheckError),
        (HealthCheck(expected_status=("200-204", "404")), 404, b"", None),
        (HealthCheck(expected_status=("200-204", "404")), 301, b"", CheckError),
        (HealthCheck(expected_body="fine"), 200, b"all fine", None),
        (HealthCheck(expected_body="fine"), 200, b"ill", CheckError),
    ],
)
def test_a_response_is_judged_by_status_and_body(
    check: HealthCheck, status: int, body: bytes, raises: type[Exception] | None
) -> None:
    if raises is None:
        judge_http(check, status, body)
        return
    with pytest.raises(raises):
        judge_http(check, status, body)


def test_grpc_messages_are_those_of_the_health_protocol() -> None:
    assert grpc_request("") == b"\0\0\0\0\0"
    assert grpc_request("a.B") == b"\0\0\0\0\x05\x0a\x03a.B"
    assert grpc_request("x" * 200)[5:8] == b"\x0a\xc8\x01"
    judge_grpc(200, b"0", b"\0\0\0\0\x02\x08\x01")
    for status, code, body in (
        (503, b"0", b"\0\0\0\0\x02\x08\x01"),
        (200, b"12", b""),
        (200, None, b""),
        (200, b"0", b"\0\0\0\0\x02\x08\x02"),
    ):
        with pytest.raises(CheckError):
            judge_grpc(status, code, body)


# --- real backends ----------------------------------------------------------------------------
def ask(address: str, check: HealthCheck, protocol: str = "auto") -> None:
    """Check a backend once."""

    async def asked() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        try:
            settings = DialSettings(Address.parse(address), protocol, None)
            await probe(check, settings, runtime, SystemResolver(runtime.loop), Http3Settings())
        finally:
            await runtime.close()

    run(asked)


@pytest.mark.parametrize(("kind", "protocol"), [("h1", "http1"), ("h2", "http2")])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/size/1", ""),
        ("/size/1000000", ""),
        ("/status/503", "status 503"),
        ("/head-then-nothing", "no answer"),
    ],
)
def test_a_backend_is_asked_over_its_protocol(
    kind: str, protocol: str, path: str, error: str
) -> None:
    check = HealthCheck(path=path, timeout_ms=300 if "nothing" in path else 30_000)

    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        async with Origin(kind, None) as origin:
            settings = DialSettings(Address.parse(origin.address), protocol, None)
            try:
                await probe(check, settings, runtime, SystemResolver(runtime.loop), Http3Settings())
                said = ""
            except CheckError as failure:
                said = str(failure)
            assert error in said
            assert bool(error) == bool(said)
        await runtime.close()

    run(scenario)


def test_who_accepts_no_connection_fails_each_check(tmp_path: Path) -> None:
    for kind in ("http", "tcp", "grpc"):
        with pytest.raises(CheckError, match="refused"):
            ask("http://127.0.0.1:9", HealthCheck(type=kind))


def test_a_tcp_check_only_connects() -> None:
    async def scenario() -> None:
        runtime = Runtime(asyncio.get_running_loop())
        heard = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set()
            assert await reader.read() == b""
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = DialSettings(Address.parse(f"http://127.0.0.1:{port}"), "auto", None)
        await probe(
            HealthCheck(type="tcp"),
            settings,
            runtime,
            SystemResolver(runtime.loop),
            Http3Settings(),
        )
        await asyncio.wait_for(heard.wait(), 30)
        server.close()
        await runtime.close()

    run(scenario)


def test_a_backend_whose_checks_fail_gets_no_requests_until_they_succeed(tmp_path: Path) -> None:
    check = {
        "path": "/wait", "interval": 100, "timeout_ms": 100, "failure_threshold": 2,
        "success_threshold": 1, "cooldown_ms": 0,
    }  # fmt: skip

    def with_two(settings: dict[str, Any], address: str) -> None:
        backends = settings["upstream"]["backend"]["backends"]
        patient = {"path": "/size/1", "interval": 10_000, "timeout_ms": 10_000}
        backends[0]["health_check"] = {**check, **patient}
        backends.append({"id": "two", "address": address, "health_check": check})

    async def until(client: Any, origins: list[Origin], expected: set[int]) -> None:
        async with asyncio.timeout(30):
            while True:
                before = [origin.gate.requests["/echo"] for origin in origins]
                for _ in range(10):
                    assert (await client.fetch("GET", "/echo")).status == 200
                after = [origin.gate.requests["/echo"] for origin in origins]
                if {at for at in (0, 1) if after[at] > before[at]} == expected:
                    return

    async def scenario() -> None:
        async with (
            Origin("h1", None) as other,
            running(
                tmp_path, "h2", "h1", lambda settings: with_two(settings, other.address)
            ) as setup,
        ):
            client = await setup.client()
            origins = [setup.origin, other]
            await until(client, origins, {0})
            other.gate.opened.set()
            await until(client, origins, {0, 1})

    run(scenario)
