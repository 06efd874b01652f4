"""Preparing a generation has no effect, switching to it is one instant, and the rest is kept."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spooky
from spooky import config
from spooky._core.admission import AdmissionStage, Upstream
from spooky.config.schema import Configuration
from spooky.edge.change import Change
from spooky.edge.worker import Worker
from spooky.generation.materials import read_materials
from spooky.upstream.pool import Pool
from tests.support.client import Client
from tests.support.proxy import Setup, configuration, run, running

Edit = Callable[[dict[str, Any]], None]


def nothing(settings: dict[str, Any]) -> None:
    """Change nothing."""


class Changes:
    """Changes of a running proxy, each from the settings that it began with."""

    def __init__(self, setup: Setup, directory: Path) -> None:
        self.setup = setup
        self._directory = directory

    @property
    def worker(self) -> Worker:
        return self.setup.proxy.worker

    def settings(self, edit: Edit = nothing) -> dict[str, Any]:
        settings = configuration(self._directory, self.setup.origin.address)
        edit(settings)
        return settings

    def change(self, number: int, edit: Edit = nothing) -> Change:
        """Return a change as a supervisor would send it, without new listeners."""
        loaded: Configuration = config.from_mapping(self.settings(edit))
        materials = read_materials(loaded)
        return Change(number, loaded, materials, tuple(self.worker.listeners))

    async def apply(self, edit: Edit = nothing) -> None:
        await self.setup.proxy.apply(self.settings(edit))

    async def given_up(self) -> None:
        """Wait until generations that are not in force refer to nothing; that is done in slices."""
        while self.worker._afterwards:
            await asyncio.sleep(0)

    def commit(self, number: int) -> None:
        self.worker.counters.segment.commit(number)

    def upstream(self, name: str = "backend") -> Upstream:
        routes = self.worker.service.generation.routes
        upstream = routes.lookup(b"x", b"/" if name == "backend" else f"/{name}".encode(), b"GET")
        assert isinstance(upstream, Upstream)
        return upstream

    def stages(self) -> tuple[AdmissionStage, ...]:
        return self.upstream().stages

    def pool(self) -> Pool:
        pool = self.upstream().backends[0].pool
        assert isinstance(pool, Pool)
        return pool


def with_changes(directory: Path, scenario: Callable[[Changes], Any], ingress: str = "h2") -> None:
    """Run a scenario with a proxy that changes."""

    async def wrapped() -> None:
        async with running(directory, ingress, "h1") as setup:
            await scenario(Changes(setup, directory))

    run(wrapped)


def limit(number: int) -> Edit:
    def edit(settings: dict[str, Any]) -> None:
        settings["performance"]["global_inflight_limit"] = number

    return edit


def moved(path: str) -> Edit:
    """Return an edit that has the backend serve another path only."""

    def edit(settings: dict[str, Any]) -> None:
        settings["upstream"]["backend"]["route"]["path_prefix"] = path

    return edit


async def status(client: Client, path: str) -> int:
    return (await client.fetch("GET", path)).status


def test_top_level_routes_lead_to_their_upstream_and_change_live(tmp_path: Path) -> None:
    def two_routes(settings: dict[str, Any]) -> None:
        del settings["upstream"]["backend"]["route"]
        settings["routes"] = [
            {"path_prefix": "/size", "upstream": "backend"},
            {"path_prefix": "/echo", "method": "get", "upstream": "backend"},
        ]

    async def scenario(changes: Changes) -> None:
        await changes.apply(two_routes)
        client = await changes.setup.client()
        assert await status(client, "/size/1") == 200
        assert await status(client, "/echo") == 200
        assert (await client.fetch("POST", "/echo")).status == 404
        await changes.apply()
        assert (await client.fetch("POST", "/echo")).status == 200

    with_changes(tmp_path, scenario)


def test_what_is_prepared_has_no_effect_until_its_number_is_in_force(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        assert await status(client, "/size/1") == 200
        pool, gate = changes.pool(), changes.stages()[-1].gate
        before = pool.settings

        def edit(settings: dict[str, Any]) -> None:
            moved("/elsewhere")(settings)
            settings["performance"] |= {
                "backend_connect_timeout_ms": 77,
                "h2_pool_idle_timeout_ms": 7_000,
                "global_inflight_limit": 1,
            }

        await changes.worker.prepare(changes.change(2, edit))
        assert await status(client, "/size/1") == 200
        assert pool.settings is before
        assert gate.try_enter(changes.stages()[-1].limit)
        gate.leave()
        changes.commit(2)
        # The head that is read next is served by the new one, and nothing but the number tells.
        assert await status(client, "/size/1") == 404
        assert pool.settings.idle_timeout == 7.0
        assert pool.settings.connect_timeout == 0.077

    with_changes(tmp_path, scenario)


def test_an_upstream_that_a_change_does_not_concern_is_compiled_only_once(tmp_path: Path) -> None:
    def with_another(weight: int) -> Edit:
        def edit(settings: dict[str, Any]) -> None:
            (backend,) = settings["upstream"]["backend"]["backends"]
            settings["upstream"]["other"] = {
                "route": {"path_prefix": "/other"},
                "backends": [backend | {"weight": weight}],
            }

        return edit

    async def scenario(changes: Changes) -> None:
        await changes.apply(with_another(1))
        one, other = changes.upstream(), changes.upstream("other")
        await changes.apply(with_another(2))
        assert changes.upstream() is one
        assert changes.upstream("other") is not other
        # What is of the whole concerns all.
        await changes.apply(limit(77))
        assert changes.upstream() is not one
        assert changes.stages()[-1].limit == 77

    with_changes(tmp_path, scenario)


def test_a_part_is_given_up_with_the_last_generation_that_has_it(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        parts = changes.worker._environment.parts
        (part,) = parts.values()
        await changes.worker.prepare(changes.change(2))
        assert part.references == 2
        changes.worker.discard()
        await changes.given_up()
        assert part.references == 1
        await changes.apply(moved("/elsewhere"))
        await changes.given_up()
        assert part.references == 0
        assert len(parts) == 1
        assert part not in parts.values()

    with_changes(tmp_path, scenario)


def test_what_is_discarded_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        environment = changes.worker._environment
        registries = (
            environment.pools, environment.gates, environment.balancers, environment.listener_tls,
        )  # fmt: skip
        before = [len(registry) for registry in registries]

        def more(settings: dict[str, Any]) -> None:
            settings["upstream"]["more"] = {
                "route": {"path_prefix": "/more"},
                "backends": [{"id": "one", "address": "http://127.0.0.1:9"}],
            }

        await changes.worker.prepare(changes.change(2, more))
        assert [len(registry) for registry in registries] != before
        changes.worker.discard(3)
        assert [len(registry) for registry in registries] != before
        changes.worker.discard(2)
        await changes.given_up()
        assert [len(registry) for registry in registries] == before

    with_changes(tmp_path, scenario)


def test_a_change_that_cannot_be_prepared_leaves_what_runs_untouched(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        def edit(settings: dict[str, Any]) -> None:
            settings["upstream"]["more"] = {
                "route": {"path_prefix": "/more"},
                "backends": [{"id": "one", "address": "app:unknown"}],
            }

        generation = changes.worker.service.generation
        pools = len(changes.worker._environment.pools)
        loaded = config.from_mapping(changes.settings(edit), apps={"unknown": print})
        change = Change(2, loaded, read_materials(loaded), (0,))
        with pytest.raises(spooky.CompileError, match="names no embedded application"):
            await changes.worker.prepare(change)
        assert len(changes.worker._environment.pools) == pools
        assert changes.worker.service.generation is generation
        assert changes.worker.service.prepared is None
        assert await status(await changes.setup.client(), "/size/1") == 200

    with_changes(tmp_path, scenario)


def test_a_worker_without_the_generation_in_force_serves_nothing_by_the_old_one(
    tmp_path: Path,
) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        behind: list[int] = []
        changes.worker._on_behind = behind.append
        changes.commit(5)
        response = await client.fetch("GET", "/size/1")
        assert response.status == 503
        assert b"does not have the configuration in force" in bytes(response.body)
        assert await status(client, "/size/1") == 503
        assert behind == [5]

    with_changes(tmp_path, scenario)


def test_a_worker_without_requests_switches_by_itself(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        await changes.worker.prepare(changes.change(2, limit(7)))
        changes.commit(2)
        async with asyncio.timeout(30):
            while changes.worker.service.generation.number != 2:
                await asyncio.sleep(0.001)
        assert changes.stages()[-1].limit == 7

    with_changes(tmp_path, scenario)


def test_another_change_prepared_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        await changes.worker.prepare(changes.change(2, moved("/two")))
        await changes.worker.prepare(changes.change(3, moved("/three")))
        changes.commit(3)
        client = await changes.setup.client()
        assert await status(client, "/two") == 404
        assert changes.worker.service.generation.number == 3

    with_changes(tmp_path, scenario)


def connecting_within(milliseconds: int) -> Edit:
    def edit(settings: dict[str, Any]) -> None:
        settings["performance"]["backend_connect_timeout_ms"] = milliseconds

    return edit


def test_a_change_back_is_prepared_when_the_change_before_has_come_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(changes: Changes) -> None:
        # Each is compiled in one go, before what follows the one before.
        monkeypatch.setattr("spooky.runtime.in_turns.HOLD_SECONDS", math.inf)
        pool, worker = changes.pool(), changes.worker
        await changes.apply(connecting_within(77))
        await changes.given_up()
        await worker.prepare(changes.change(3, connecting_within(88)))
        changes.commit(3)
        worker.look()
        # As soon as that: what follows the switch has not begun.
        assert pool.settings.connect_timeout == 0.077
        await worker.prepare(changes.change(4, connecting_within(77)))
        changes.commit(4)
        worker.look()
        await changes.given_up()
        assert pool.settings.connect_timeout == 0.077

    with_changes(tmp_path, scenario)


def test_a_switch_leaves_what_follows_to_later_turns_of_the_loop(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        def edit(settings: dict[str, Any]) -> None:
            moved("/elsewhere")(settings)
            connecting_within(77)(settings)

        parts = changes.worker._environment.parts
        (before,) = parts.values()
        pool = changes.pool()
        await changes.worker.prepare(changes.change(2, edit))
        changes.commit(2)
        changes.worker.look()
        # It is in force at once, however much there is to follow.
        assert changes.worker.service.generation.number == 2
        assert pool.settings.connect_timeout != 0.077
        assert before in parts.values()
        await changes.given_up()
        assert pool.settings.connect_timeout == 0.077
        assert before not in parts.values()

    with_changes(tmp_path, scenario)


def test_a_change_keeps_the_pool_and_its_connections(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        await client.fetch("GET", "/size/1")
        pool = changes.pool()
        (connection,) = pool._connections

        def edit(settings: dict[str, Any]) -> None:
            settings["performance"]["backend_connect_timeout_ms"] = 1234

        await changes.apply(edit)
        await client.fetch("GET", "/size/1")
        assert changes.pool() is pool
        assert pool._connections == {connection}
        assert connection.served == 2

    with_changes(tmp_path, scenario)


def test_a_shorter_idle_timeout_counts_for_connections_that_are_idle_already(
    tmp_path: Path,
) -> None:
    async def scenario(changes: Changes) -> None:
        await (await changes.setup.client()).fetch("GET", "/size/1")
        pool = changes.pool()

        def edit(settings: dict[str, Any]) -> None:
            settings["performance"]["h2_pool_idle_timeout_ms"] = 50

        await changes.apply(edit)
        async with asyncio.timeout(30):
            while pool._connections:
                await asyncio.sleep(0.005)

    with_changes(tmp_path, scenario)


def test_an_exchange_keeps_its_policy_and_its_pool(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(changes.setup.origin.gate.reached.wait(), 30)
        await changes.apply(moved("/elsewhere"))
        assert await status(client, "/size/1") == 404
        changes.setup.origin.gate.opened.set()
        await asyncio.wait_for(stream.ended.wait(), 30)
        assert stream.response.status == 200

    with_changes(tmp_path, scenario)


def test_a_change_of_weights_keeps_what_the_balancer_knows(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(changes.setup.origin.gate.reached.wait(), 30)
        assert changes.upstream().balancer.active(0) == 1

        def edit(settings: dict[str, Any]) -> None:
            backends = settings["upstream"]["backend"]["backends"]
            backends[0]["weight"] = 7
            backends.insert(0, {"id": "two", "address": "http://127.0.0.1:9", "weight": 1})

        await changes.apply(edit)
        balancer = changes.upstream().balancer
        assert [balancer.active(0), balancer.active(1)] == [0, 1]
        changes.setup.origin.gate.opened.set()
        await asyncio.wait_for(stream.whole(), 30)
        assert balancer.active(1) == 0

    with_changes(tmp_path, scenario)
