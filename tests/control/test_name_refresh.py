"""Names that lead elsewhere: asked by one process, followed without touching what stays."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import spooky
from spooky.config import from_mapping
from spooky.control import name_refresh
from spooky.control.name_refresh import AT_ONCE_MAX, NameRefresh
from spooky.runtime import Runtime
from tests.support.origin import Gate
from tests.support.origin_h1 import serve_h1
from tests.support.proxy import configuration, connect, run


class Resolver:
    """Answers as a test says: addresses, or an error."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answer = self.answers[host.partition(".")[0]]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def configured(*addresses: str, **performance: Any) -> Any:
    return from_mapping(
        {
            "listen": {"tls": {"cert": "c", "key": "k"}},
            "performance": performance,
            "upstream": {
                "api": {
                    "route": {"path_prefix": "/"},
                    "backends": [
                        {"id": str(at), "address": address} for at, address in enumerate(addresses)
                    ],
                }
            },
        }
    )


class Asking:
    """A refresh whose rounds the test begins."""

    def __init__(self, resolver: Resolver, *addresses: str, **performance: Any) -> None:
        self.told: list[tuple[str, int, tuple[str, ...]]] = []
        self.runtime = Runtime(asyncio.get_running_loop())
        self.refresh = NameRefresh(self.runtime, resolver, lambda *what: self.told.append(what))
        self.refresh.follow(configured(*addresses, **performance))
        self.refresh.close()

    async def round(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """Return what is told of in one more round."""
        self.told.clear()
        await self.refresh.refresh()
        return list(self.told)

    @property
    def outcomes(self) -> dict[str, float]:
        return {
            fact.labels[0][1]: fact.value
            for fact in self.refresh.facts()
            if fact.name == "backend_dns_refreshes_total"
        }


def test_only_names_that_changed_are_told_and_the_order_is_no_change() -> None:
    async def scenario() -> None:
        began = time.time()
        resolver = Resolver(a=["10.0.0.1", "10.0.0.2"], b=["10.0.1.1"])
        asking = Asking(resolver, "http://a.test", "https://b.test:8443", "http://10.9.9.9")
        # Who connects asks for itself: of the first answers nobody is told.
        assert await asking.round() == []
        assert sorted(resolver.asked) == ["a.test", "b.test"]
        resolver.answers["a"] = ["10.0.0.2", "10.0.0.1"]
        assert await asking.round() == []
        resolver.answers["a"] = ["10.0.0.2", "10.0.0.3"]
        assert await asking.round() == [("a.test", 80, ("10.0.0.2", "10.0.0.3"))]
        assert asking.outcomes == {"changed": 3, "unchanged": 3, "empty": 0, "failed": 0}
        resolved = {
            fact.labels[0][1]: fact.value
            for fact in asking.refresh.facts()
            if fact.name == "backend_dns_last_refresh_success_seconds"
        }
        assert resolved.keys() == {"a.test", "b.test"}
        assert all(began <= when <= time.time() for when in resolved.values())
        await asking.runtime.close()

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "outcome", "said"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "failed", "try again"),
        ([], "empty", "it has no address"),
    ],
)
def test_a_name_that_does_not_resolve_keeps_its_addresses_and_the_log_says_so_once(
    answer: Any, outcome: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        resolver = Resolver(a=["10.0.0.1"])
        asking = Asking(resolver, "http://a.test")
        await asking.round()
        resolver.answers["a"] = answer
        assert await asking.round() == await asking.round() == []
        assert asking.outcomes[outcome] == 2
        assert asking.refresh.failures == {"a.test": said}
        resolver.answers["a"] = ["10.0.0.1"]
        assert await asking.round() == []
        assert [record.getMessage() for record in caplog.records] == [
            f"a.test does not resolve: {said}; addresses kept: 10.0.0.1",
            "a.test resolves again",
        ]
        assert asking.refresh.failures == {"a.test": ""}
        await asking.runtime.close()

    run(scenario)


def test_what_is_configured_is_asked_for_and_nothing_else() -> None:
    async def scenario() -> None:
        resolver = Resolver(a=["10.0.0.1"], b=["10.0.1.1"])
        asking = Asking(resolver, "http://a.test")
        await asking.round()
        # One that stays is no news.
        asking.refresh.follow(configured("http://a.test", "http://b.test"))
        asking.refresh.close()
        resolver.asked.clear()
        assert await asking.round() == []
        assert sorted(resolver.asked) == ["a.test", "b.test"]
        resolver.answers["b"] = ["10.0.1.2"]
        assert await asking.round() == [("b.test", 80, ("10.0.1.2",))]
        asking.refresh.follow(configured("http://b.test", backend_dns_refresh_enabled=False))
        resolver.asked.clear()
        assert await asking.round() == []
        assert resolver.asked == []
        # A change need not ask for it either.
        assert asking.refresh.failures == {"b.test": ""}
        await asking.runtime.close()

    run(scenario)


def test_a_name_that_is_removed_while_it_is_asked_for_does_not_stay_as_failing() -> None:
    async def scenario() -> None:
        answer = asyncio.get_running_loop().create_future()

        async def resolve(host: str, port: int) -> list[str]:
            raise await answer

        refresh = NameRefresh(Runtime(asyncio.get_running_loop()), resolve, lambda *_: None)
        refresh.follow(configured("http://a.test"))
        refresh.close()
        asking = asyncio.ensure_future(refresh.refresh())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refresh.follow(configured("http://10.0.0.1"))
        answer.set_result(socket.gaierror(socket.EAI_AGAIN, "try again"))
        await asking
        assert refresh.failures == {}

    run(scenario)


def test_requests_follow_a_name_while_those_under_way_and_other_addresses_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(backend=["127.0.0.1"])
    monkeypatch.setattr("spooky.proxy.SystemResolver", lambda loop: resolver)
    gates = {address: Gate() for address in ("127.0.0.1", "127.0.0.2")}

    async def scenario() -> None:
        servers = []
        port = 0
        for address, gate in gates.items():
            server = await asyncio.start_server(
                lambda reader, writer, gate=gate: serve_h1(reader, writer, gate), address, port
            )
            servers.append(server)
            port = server.sockets[0].getsockname()[1]
        settings = configuration(tmp_path, f"http://backend.test:{port}")
        settings["performance"]["backend_dns_refresh_interval_ms"] = 100
        async with spooky.Proxy(settings) as proxy:
            client, other = await connect("h2", proxy.port), await connect("h2", proxy.port)
            first, second = gates.values()
            waiting = asyncio.ensure_future(other.fetch("GET", "/wait"))
            await first.reached.wait()
            assert (await client.fetch("GET", "/size/1")).status == 200
            # Both addresses: nothing that there is changes.
            resolver.answers["backend"] = ["127.0.0.1", "127.0.0.2"]
            asked = len(resolver.asked)
            while len(resolver.asked) < asked + 3:
                await asyncio.sleep(0.02)
            assert (await client.fetch("GET", "/size/1")).status == 200
            assert (first.requests["/size/1"], second.requests["/size/1"]) == (2, 0)
            resolver.answers["backend"] = ["127.0.0.2"]
            while not second.requests["/size/1"]:
                assert (await client.fetch("GET", "/size/1")).status == 200
                await asyncio.sleep(0.02)
            seen = first.requests["/size/1"]
            assert (await client.fetch("GET", "/size/1")).status == 200
            assert first.requests["/size/1"] == seen
            first.opened.set()
            assert (await waiting).status == 200
            await client.close()
            await other.close()
        for server in servers:
            server.close()

    run(scenario)


def test_silent_names_hold_their_room_until_they_return_and_are_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_refresh, "ANSWER_SECONDS", 0.01)

    async def scenario() -> None:
        speaks = asyncio.Event()
        asked: list[str] = []

        async def resolve(host: str, port: int) -> list[str]:
            asked.append(host)
            await speaks.wait()
            return [f"10.0.0.{len(asked)}"]

        runtime = Runtime(asyncio.get_running_loop())
        refresh = NameRefresh(runtime, resolve, lambda *_: None)
        names = [f"http://silent{at}.test" for at in range(AT_ONCE_MAX + 1)]
        refresh.follow(configured(*names))
        refresh.close()
        round_ = asyncio.ensure_future(refresh.refresh())
        await asyncio.sleep(0.1)
        # One waits though the others have failed, for they hold the system's threads.
        assert len(asked) == AT_ONCE_MAX
        another = asyncio.ensure_future(refresh.refresh())
        await asyncio.sleep(0.05)
        assert len(asked) == AT_ONCE_MAX
        another.cancel()
        speaks.set()
        await round_
        assert len(asked) == AT_ONCE_MAX + 1
        # Late answers are taken.
        assert all(
            fact.value == 1
            for fact in refresh.facts()
            if fact.name == "backend_dns_resolved_addresses"
        )
        await runtime.close()

    run(scenario)
