"""What is set of backends at run time: over the file, until it says the same or is asked to end."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from spooky import config
from spooky._core import COMPILED
from spooky.cli.control_client import get, post
from spooky.cli.errors import CommandError
from spooky.config.schema import Configuration
from spooky.control.history import History, Record, Source
from spooky.control.overrides import (
    Override,
    find_backend,
    merge,
    overridden_settings,
    override,
    remaining,
    without,
)
from tests.control.serve import Served, served
from tests.support.origin import Origin
from tests.support.proxy import configuration, run
from tests.support.waiting import until

WORKERS = 2 if COMPILED else 1
TWO = "/admin/runtime/upstreams/backend/backends/two"


def written(directory: Path, **second: Any) -> Configuration:
    settings = configuration(directory, "http://127.0.0.1:1")
    backend = {"id": "two", "address": "http://127.0.0.1:2", **second}
    settings["upstream"]["backend"]["backends"].append(backend)
    return config.from_mapping(settings)


def drained(weight: int | None = None) -> Override:
    return Override(upstream="backend", backend="two", state="drained", weight=weight)


def test_what_the_file_says_itself_is_no_override_any_more(tmp_path: Path) -> None:
    overrides = (drained(7),)
    assert remaining(written(tmp_path), overrides) == overrides
    assert remaining(written(tmp_path, state="drained"), overrides) == (
        Override(upstream="backend", backend="two", weight=7),
    )
    assert remaining(written(tmp_path, state="drained", weight=7), overrides) == ()
    gone = Override(upstream="backend", backend="three", weight=7)
    assert remaining(written(tmp_path), (gone,)) == ()


def test_an_override_changes_its_own_settings_alone(tmp_path: Path) -> None:
    base = written(tmp_path, weight=9)
    changed = override(base, (drained(),))
    two, one = find_backend(changed, "backend", "two"), find_backend(changed, "backend", "one")
    assert two is not None
    assert (two.state, two.weight) == ("drained", 9)
    assert one == find_backend(base, "backend", "one")
    assert override(base, ()) is base
    (setting,) = overridden_settings(base, (drained(),))
    assert (setting.key, setting.file, setting.value) == ("state", "enabled", "drained")


def test_acts_on_one_backend_add_up_and_are_taken_back_together() -> None:
    weighed = Override(upstream="backend", backend="two", weight=5)
    other = Override(upstream="backend", backend="one", weight=1)
    both = merge(merge((other,), drained()), weighed)
    assert both == (other, drained(5))
    assert without(both, "backend", "two") == (other,)


def test_a_rollback_steps_over_no_override(tmp_path: Path) -> None:
    history = History(tmp_path / "state", 10)
    plain = Record(
        number=1, time=0.0, source=Source.START, path="/f", text="x", files={}, origin=1,
        requested_by="a test",
    )  # fmt: skip
    history.add(plain)
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    overridden = Record(**{**fields, "number": 2, "origin": 2, "overrides": (drained(),)})
    history.add(overridden)
    assert history.before(2) == plain
    assert overridden.digest != plain.digest
    history.close()
    assert History(tmp_path / "state", 10).newest == overridden


async def ask(target: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the one that runs; a POST if there is a body."""
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
    if body is None:
        return await asyncio.to_thread(get, path, target)
    return await asyncio.to_thread(post, path, target, body)


async def answered_by(proxy: Served, other: Origin, ingress: str = "h2") -> set[str]:
    """Return which of the backends answer new requests."""
    client = await proxy.client(ingress)
    counts = {"one": proxy.origin.gate.requests, "two": other.gate.requests}
    before = {name: count["/echo"] for name, count in counts.items()}
    for _ in range(8):
        assert (await client.fetch("GET", "/echo")).status == 200
    return {name for name, count in counts.items() if count["/echo"] > before[name]}


def test_a_drained_backend_finishes_what_it_has_and_gets_nothing_new_until_undrained(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with Origin("h1", None) as other:

            def add(settings: dict[str, Any]) -> None:
                backends = settings["upstream"]["backend"]["backends"]
                backends.append({"id": "two", "address": other.address})
                settings["performance"]["shutdown_drain_timeout_ms"] = 100

            async with served(tmp_path, WORKERS, add) as proxy:
                clients = [await proxy.client("h2") for _ in range(4)]
                waiting = [
                    asyncio.ensure_future(each.fetch("GET", "/wait")) for each in clients * 2
                ]
                await until(lambda: other.gate.requests["/wait"] > 0)
                outcome = await ask(f"{TWO}/drain", {"reason": "new disks"})
                assert outcome["changed"]
                (setting,) = outcome["plan"]["overrides"]
                assert (setting["file"], setting["value"]) == ("enabled", "drained")
                assert await answered_by(proxy, other) == {"one"}

                # It outlives a reload of a file that says something else.
                proxy.write(lambda s: s["performance"].update(global_inflight_limit=777))
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert "state stays drained; the file says enabled" in output
                assert await answered_by(proxy, other) == {"one"}
                code, output = await proxy.command("status")
                assert "override    backend two: state is drained; the file says enabled" in output
                # What was in flight took longer than anything removed would have had.
                proxy.origin.gate.opened.set()
                other.gate.opened.set()
                assert {(await each).status for each in waiting} == {200}

                # The file says the same: then it is no override, and the file's next word counts.
                def say(state: str) -> None:
                    proxy.write(
                        lambda s: s["upstream"]["backend"]["backends"][1].update(state=state)
                    )

                say("drained")
                outcome = await ask("/admin/runtime/reload", {})
                assert outcome["changed"]
                assert outcome["plan"]["changes"] == []
                assert outcome["plan"]["overrides"] == []
                assert outcome["plan"]["settled"] != []
                say("enabled")
                assert (await ask("/admin/runtime/reload", {}))["changed"]
                assert await answered_by(proxy, other) == {"one", "two"}

                # By command, and taken back by one.
                code, output = await proxy.command("backend", "disable", "backend", "two")
                assert code == 0, output
                assert "drained: pools of backend (two)" in output
                assert await answered_by(proxy, other) == {"one"}
                with pytest.raises(CommandError, match="disabled: enable it first"):
                    await ask(f"{TWO}/undrain", {})
                code, output = await proxy.command("rollback")
                assert code == 0, output
                assert await answered_by(proxy, other) == {"one", "two"}
                code, output = await proxy.command("backend", "weight", "backend", "two", "3")
                assert code == 0, output
                assert "weight: 100 → 3" in output
                assert not (await ask(f"{TWO}/weight", {"weight": 3}))["changed"]
                with pytest.raises(CommandError, match="no backend 'three' of 'backend'"):
                    await ask(TWO.replace("two", "three") + "/drain", {})
                code, output = await proxy.command("backend", "weight", "backend", "two", "0")
                assert code == 2
                code, output = await proxy.command("backend", "reset", "backend", "two")
                assert code == 0, output
                assert "weight is no longer overridden" in output
                assert (await ask("/admin/runtime"))["overrides"] == []

    run(scenario)


def test_a_drained_backend_is_drained_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Origin("h1", None) as other:

            def add(settings: dict[str, Any]) -> None:
                backends = settings["upstream"]["backend"]["backends"]
                backends.append({"id": "two", "address": other.address})

            async with served(tmp_path, 1, add) as proxy:
                await ask(f"{TWO}/drain", {})
                proxy.process.terminate()
                assert await proxy.exited() == 0
            async with served(tmp_path, 1, add) as proxy:
                # The address of the other backend differs, so that this is another generation.
                assert "two of backend is overridden, as it was" in proxy.log
                assert (await ask("/admin/runtime"))["overrides"][0]["value"] == "drained"
                assert await answered_by(proxy, other) == {"one"}

    run(scenario)
