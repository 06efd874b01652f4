"""A change is refused that the shared table has no room for; else limits would silently split."""

import asyncio
from pathlib import Path

import pytest
import yaml

from spooky._core.shared import LIMITS_MAX
from spooky.config import diagnose_text, load_text
from spooky.config.shared_room import (
    ENTRIES_MAX,
    ENTRIES_PER_BACKEND,
    ENTRIES_PER_UPSTREAM,
    shared_entries,
)
from spooky.control.change import Asked, ChangeError
from spooky.control.facts import build_facts
from spooky.observe.segment import private_segment
from tests.control.test_unproven import Kept
from tests.support.proxy import configuration

MOST = (ENTRIES_MAX - ENTRIES_PER_UPSTREAM) // ENTRIES_PER_BACKEND


def errors(directory: Path, count: int) -> list[str]:
    """Return what is wrong with a configuration of so many backends."""
    settings = configuration(directory, "http://10.0.0.1:80")
    (upstream,) = settings["upstream"].values()
    upstream["backends"] = [
        {"id": f"b{at}", "address": f"http://10.0.{at // 250}.{at % 250 + 1}:80"}
        for at in range(count)
    ]
    text = yaml.dump(settings, Dumper=yaml.CSafeDumper)
    problems = diagnose_text(text, "a.yaml").problems
    return [problem.message for problem in problems if "verified" not in problem.message]


def test_more_backends_than_the_table_has_room_for_are_an_error(tmp_path: Path) -> None:
    assert errors(tmp_path, MOST) == []
    (error,) = errors(tmp_path, MOST + 1)
    assert f"{MOST + 1} backends of 1 upstreams take" in error
    assert f"which has {ENTRIES_MAX}" in error


def test_a_change_that_adds_more_than_is_free_is_refused_and_made_when_there_is_room(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        segment = kept.changes._segment
        taken = [segment.words(key) for key in range(1, 2 * (LIMITS_MAX - 8), 2)]
        settings = yaml.safe_load(kept.path.read_text())
        (upstream,) = settings["upstream"].values()
        upstream["backends"] += [
            {"id": f"new{at}", "address": f"http://10.0.0.{at}:80"} for at in range(1, 4)
        ]
        kept.path.write_text(yaml.safe_dump(settings))
        with pytest.raises(ChangeError, match=r"take 9 entries of the table .* and 8 of 16384"):
            await kept.changes.reload(Asked("a test"))
        assert kept.changes.record.number == 1
        del taken[-1]
        assert (await kept.changes.reload(Asked("a test"))).changed

    asyncio.run(scenario())


def test_a_way_back_needs_no_room(tmp_path: Path) -> None:
    async def scenario() -> None:
        kept = Kept(tmp_path)
        await kept.changes.keep_first(inherited=False)
        settings = yaml.safe_load(kept.path.read_text())
        (name,) = settings["upstream"]
        settings["upstream"]["other"] = settings["upstream"].pop(name)
        kept.path.write_text(yaml.safe_dump(settings))
        assert (await kept.changes.reload(Asked("a test"))).changed
        segment = kept.changes._segment
        taken = [segment.words(key) for key in range(1, 2 * LIMITS_MAX, 2)]
        assert taken
        outcome = await kept.changes.rollback(None, Asked("a test"))
        assert list(kept.changes.running.configuration.upstream) == [name]
        assert outcome.changed

    asyncio.run(scenario())


def test_a_route_is_the_same_wherever_it_stands(tmp_path: Path) -> None:
    settings = configuration(tmp_path, "http://10.0.0.1:80")
    (name,) = settings["upstream"]
    routes = [{"upstream": name, "path_prefix": f"/{at}", "max_inflight": 9} for at in range(1, 4)]
    found = []
    for order in (routes, routes[::-1], routes[1:], routes[:-1]):
        text = yaml.safe_dump({**settings, "routes": order})
        found.append(shared_entries(load_text(text)))
    assert found[0] == found[1]
    assert found[2].items() < found[0].items()
    assert found[3].items() < found[0].items()
    assert found[2] != found[3]


def test_the_metrics_tell_how_much_of_the_table_is_left() -> None:
    segment = private_segment()
    view = segment.words(3)
    assert view is not None
    facts = {
        fact.labels: fact.value
        for fact in build_facts(segment, 0.0)
        if fact.name == "shared_entries"
    }
    assert facts == {(("state", "used"),): 1, (("state", "free"),): LIMITS_MAX - 1}
