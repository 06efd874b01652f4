"""Probation: bad generations are taken back, good ones stay, and people always come first."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spooky.config.schema import Configuration
from spooky.control import probation as module
from spooky.control.candidate import Candidate
from spooky.control.change import (
    Asked,
    Committed,
    InForce,
    Outcome,
    PrepareError,
    StaleError,
)
from spooky.control.history import Record, Source
from spooky.control.plan import Plan
from spooky.control.probation import Probation
from spooky.control.traffic import Traffic, TrafficReader, UpstreamTraffic
from spooky.generation.materials import Materials
from spooky.observe.counters import Counters
from spooky.observe.segment import private_segment
from tests.control.serve import served
from tests.support.proxy import run


def in_force(number: int) -> InForce:
    """Return a generation."""
    nothing = Configuration(upstream={})
    candidate = Candidate(nothing, "", "", Materials({}, b""), (), nothing)
    record = Record(
        number=number, time=0, source=Source.APPLY, path="", text="", files={}, origin=number,
        requested_by="",
    )  # fmt: skip
    return InForce(candidate, record)


class Bench:
    """A probation whose traffic and whose way back are scripted."""

    def __init__(self) -> None:
        self.requests = 1000
        self.failures = 0
        self.ready = 1.0
        self.went_back: list[tuple[int, Asked]] = []
        self.errors: list[Exception] = []
        self.passed: list[int] = []
        self.probation = Probation(
            self,  # type: ignore[arg-type]
            self._go_back,
            lambda: None,
            self.passed.append,
        )
        # What came before the change.
        self.serve(1000, 0)

    def read(self) -> Traffic:
        """Stand in for the reader."""
        return Traffic(
            {"api": UpstreamTraffic(self.requests, self.failures)}, ready={"api": self.ready}
        )

    def serve(self, requests: int, failures: int) -> None:
        """Have so many requests come."""
        self.requests += requests
        self.failures += failures

    def commit(
        self, number: int, seconds: float, source: Source = Source.APPLY, overridden: str = ""
    ) -> None:
        """Have a generation come in force after the one before it."""
        upstreams = frozenset((overridden,) if overridden else ())
        self.probation.committed(
            Committed(number, source, in_force(number - 1), seconds, upstreams)
        )

    async def _go_back(self, earlier: InForce, asked: Asked) -> Outcome:
        if self.errors:
            raise self.errors.pop(0)
        self.went_back.append((earlier.record.number, asked))
        self.commit(99, 0, Source.ROLLBACK)
        return Outcome(in_force(99).record, Plan(), 0.0, changed=True)

    @property
    def verdict(self) -> tuple[int, str]:
        """What is said, of which generation."""
        assert self.probation.status is not None
        return self.probation.status["generation"], self.probation.status["verdict"]

    async def until(self, verdict: str) -> None:
        """Wait for what is said."""
        async with asyncio.timeout(30):
            while self.verdict[1] != verdict:
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.03)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.01)


def scenario(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on a bench of its own."""

    async def main() -> None:
        bench = Bench()
        await asyncio.wait_for(test(bench), 30)
        bench.probation.close()

    def run_it() -> None:
        asyncio.run(main())

    run_it.__name__ = getattr(test, "__name__", "test")
    return run_it


@scenario
async def test_a_regression_goes_back_by_itself_and_says_why(bench: Bench) -> None:
    bench.commit(7, 10)
    assert bench.probation.is_open
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("rolled_back")
    ((target, asked),) = bench.went_back
    assert target == 6
    # Not over the head of whoever has put another generation in force meanwhile.
    assert asked.generation == 7
    assert asked.requested_by == "probation"
    assert asked.reason.startswith("generation 7 regressed: 5xx: 60.0 %")
    assert bench.verdict == (7, "rolled_back")
    assert not bench.probation.is_open
    assert bench.probation.rollbacks == 1


@scenario
async def test_a_file_that_drains_every_backend_goes_back(bench: Bench) -> None:
    bench.commit(7, 10)
    bench.ready = 0.0
    await bench.until("rolled_back")
    assert "ready backends: 0 % of those of upstream api" in bench.went_back[0][1].reason


@scenario
async def test_backends_that_are_drained_by_hand_are_not_the_fault_of_a_file(bench: Bench) -> None:
    bench.commit(7, 0.15)
    bench.commit(8, 0, Source.OVERRIDE, "api")
    bench.ready = 0.0
    await bench.until("passed")
    assert bench.went_back == []


@scenario
async def test_a_good_generation_passes_and_what_fails_later_is_not_its_fault(bench: Bench) -> None:
    bench.commit(7, 0.1)
    await asyncio.sleep(0.05)
    bench.serve(500, 0)
    await bench.until("passed")
    bench.serve(500, 500)
    await asyncio.sleep(0.05)
    assert bench.went_back == []
    assert bench.passed == [7]


@scenario
async def test_what_began_before_the_commit_is_not_counted(bench: Bench) -> None:
    bench.commit(7, 0.15)
    await asyncio.sleep(0.01)
    bench.serve(100, 100)
    await asyncio.sleep(0.05)
    bench.serve(100, 0)
    await bench.until("passed")
    assert bench.went_back == []


@scenario
async def test_without_probation_nothing_is_watched(bench: Bench) -> None:
    bench.commit(7, 0)
    assert bench.probation.status is None
    bench.commit(8, 0, Source.ROLLBACK)
    assert bench.probation.status is None


@scenario
async def test_a_rollback_on_probation_is_watched_and_taken_back_as_any_change(
    bench: Bench,
) -> None:
    bench.commit(7, 10)
    bench.commit(8, 10, Source.ROLLBACK)
    assert bench.verdict == (8, "watching")
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("rolled_back")
    ((target, _),) = bench.went_back
    assert target == 6


@scenario
async def test_a_rollback_on_probation_by_hand_ends_the_way_back_of_another(bench: Bench) -> None:
    going = asyncio.Event()

    async def wait(_: InForce, __: Asked) -> Outcome:
        going.set()
        return await asyncio.Future()

    bench.probation._go_back = wait
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await going.wait()
    trial = bench.probation._trial
    bench.commit(8, 10, Source.ROLLBACK)
    assert trial is not None
    assert trial.verdict == "ended"
    assert bench.verdict == (8, "watching")


@scenario
async def test_another_change_ends_it_and_is_held_against_what_had_proved_itself(
    bench: Bench,
) -> None:
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.commit(8, 10)
    assert bench.verdict == (8, "watching")
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("rolled_back")
    assert [target for target, _ in bench.went_back] == [6]


@scenario
async def test_a_change_without_probation_ends_that_of_the_one_before(bench: Bench) -> None:
    bench.commit(7, 10)
    bench.commit(8, 0)
    assert bench.verdict == (7, "ended")
    await asyncio.sleep(0.05)
    bench.serve(50, 50)
    await asyncio.sleep(0.05)
    assert bench.went_back == []


@scenario
async def test_what_is_overridden_meanwhile_neither_ends_it_nor_stands_in_its_way(
    bench: Bench,
) -> None:
    bench.commit(7, 10)
    bench.commit(8, 10, Source.OVERRIDE)
    assert bench.verdict == (7, "watching")
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("rolled_back")
    ((target, asked),) = bench.went_back
    assert (target, asked.generation) == (6, 8)


@scenario
async def test_the_way_back_is_tried_again(bench: Bench) -> None:
    bench.errors = [PrepareError("a worker died"), PrepareError("another did")]
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("rolled_back")
    assert len(bench.went_back) == 1


@scenario
async def test_a_rollback_by_hand_on_the_way_back_ends_it(bench: Bench) -> None:
    bench.errors = [PrepareError("a worker died"), StaleError("generation 8 is in force")]
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("going_back")
    bench.commit(8, 0, Source.ROLLBACK)
    await bench.until("ended")
    assert bench.went_back == []


@scenario
async def test_a_way_back_that_is_barred_is_reported(bench: Bench) -> None:
    bench.errors = [PrepareError("the port is in use")] * module.ATTEMPTS
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("not_rolled_back")
    assert bench.probation.status is not None
    assert "the port is in use" in bench.probation.status["reason"]


@scenario
async def test_who_changed_it_meanwhile_is_not_overruled(bench: Bench) -> None:
    bench.errors = [StaleError("generation 8 is in force")]
    bench.commit(7, 10)
    await asyncio.sleep(0.05)
    bench.serve(50, 30)
    await bench.until("ended")
    assert bench.went_back == []


def test_counts_are_read_as_workers_write_them_later_ones_too() -> None:
    segment = private_segment()
    reader = TrafficReader(segment)
    assert reader.read() == Traffic()
    counters = Counters(segment, 0)

    def count(upstream: str, status: str) -> None:
        labels = {
            "protocol": "h3", "upstream": upstream, "backend": "one", "status_class": status,
            "stage": "end", "reason": "completed",
        }  # fmt: skip
        counters.values[counters.slot("requests_total", labels)] += 1

    count("api", "2xx")
    assert reader.read().upstreams["api"].requests == 1
    for status in ("5xx", "2xx", "none"):
        count("api", status)
    count("web", "5xx")
    counters.histogram("upstream_first_byte_seconds", {"upstream": "api"}).observe(0.003)
    counters.values[counters.slot("connections_total", {"transport": "tcp"})] += 3
    counters.values[counters.slot("handshakes_failed_total", {"transport": "quic"})] += 2
    read = reader.read()
    assert (read.upstreams["api"].requests, read.upstreams["api"].failures) == (3, 1)
    assert (read.upstreams["web"].requests, read.upstreams["web"].failures) == (1, 1)
    assert read.upstreams["api"].latencies[4] == sum(read.upstreams["api"].latencies) == 1
    assert (read.connections, read.failed_handshakes) == (3, 2)


def test_a_backend_whose_counts_are_forgotten_takes_none_of_the_others_away() -> None:
    segment = private_segment()
    reader, counters = TrafficReader(segment), Counters(segment, 0)

    def count(backend: str, status: str, times: int, upstream: str = "api") -> None:
        labels = {
            "protocol": "h3", "upstream": upstream, "backend": backend, "status_class": status,
            "stage": "end", "reason": "completed",
        }  # fmt: skip
        counters.values[counters.slot("requests_total", labels)] += times

    count("removed", "2xx", 5000)
    count("kept", "2xx", 100)
    count("kept", "5xx", 2)
    before = reader.read()
    counters.forget(lambda name: dict(name.labels).get("backend") != "removed")
    count("kept", "2xx", 300)
    count("added", "2xx", 50)
    came = (reader.read() - before).upstreams["api"]
    assert (came.requests, came.failures) == (350, 0)
    # As does an upstream that is forgotten and comes back: its counts are no continuation.
    counters.forget(lambda name: dict(name.labels).get("upstream") != "api")
    reader.read()
    count("new", "2xx", 9000)
    came = (reader.read() - before).upstreams["api"]
    assert (came.requests, came.failures) == (9000, 0)


# --- with processes, and a backend ------------------------------------------------------------
class Backend:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.status = b"200 OK"
        self.seconds = 0.0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self.seconds)
                writer.write(b"HTTP/1.1 " + self.status + b"\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    """Run a backend."""
    made = Backend()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


def test_a_change_to_a_broken_or_slow_backend_is_taken_back_and_to_a_good_one_stays(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with backend() as broken, backend() as slow, backend() as good:
            broken.status = b"500 Internal Server Error"
            slow.seconds = 0.2
            async with served(tmp_path, 1) as proxy:

                async def apply(to: Backend, *options: str) -> tuple[int, str]:
                    def use(settings: dict[str, Any]) -> None:
                        (one,) = settings["upstream"]["backend"]["backends"]
                        one["address"] = to.address

                    proxy.write(use)
                    return await proxy.command("apply", str(proxy.path), *options)

                async def load() -> None:
                    client = await proxy.client("h2")
                    while True:
                        await asyncio.gather(*(client.fetch("GET", "/size/1") for _ in range(4)))
                        await asyncio.sleep(0.01)

                loading = asyncio.ensure_future(load())
                await asyncio.sleep(1)

                code, output = await apply(broken, "--probation", "1m")
                assert code == 3, output
                assert "generation 2 was taken back: 5xx: 100.0 %" in output
                assert "generation 3 is in force" in output
                code, output = await proxy.command("history")
                assert "rollback to 1" in output
                assert "(probation: generation 2 regressed: 5xx" in output

                waiting = asyncio.ensure_future(apply(slow, "--probation", "1m"))
                while "generation 4 is on probation" not in proxy.log:
                    await asyncio.sleep(0.02)
                code, output = await proxy.command("status")
                assert code == 0
                assert "probation   of generation 4: " in output
                assert "s of 60 s left" in output
                code, output = await waiting
                assert code == 3, output
                assert "latency: p50" in output

                # Left to the configuration this time.
                proxy.write(lambda settings: settings.update(control={"probation": 5}))
                code, output = await apply(good, "--json")
                assert code == 0, output
                answer = json.loads(output)
                assert answer["probation"]["verdict"] == "passed"
                assert answer["generation"]["number"] == 6
                assert "generation 5 is in force" in proxy.log
                loading.cancel()
                # What was said of a change before is no answer to one that is none.
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert "nothing changed: generation 6 stays in force" in output
                assert "probation" not in output

    run(main)
