"""No backend understands a request differently than Spooky does: attack rows 27 to 31 and 33."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

import spooky
from tests.smuggling import cases
from tests.smuggling.cases import Case
from tests.smuggling.clients import Sender
from tests.smuggling.origins import (
    CANARY,
    CANARY_IDENTITY,
    ORIGINS,
    Identity,
    Origin,
    RefusalError,
    replay_h1,
    replay_h2,
    running,
)
from tests.smuggling.recorders import Recorder, Seen
from tests.support.proxy import INGRESSES, configuration

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

Cell = tuple[int, int, int]
"""How many requests an origin got, how many it refused, and how many it took for others."""

EGRESSES = ("h1", "h2")

AT_ONCE = 16
"""Conversations at a time, where each has its own connection."""


@dataclass
class Run:
    """What came of all cases in one client protocol over one backend protocol.

    Attributes:
        answers: Of each case, by its kind.
        logged: Method, path, authority and body bytes as Spooky understood them, by upstream.
        answered: Those of ``logged`` that got status 200.
        seen: What reached the backend of each upstream.
    """

    answers: dict[str, Counter[str]] = field(default_factory=dict)
    logged: dict[str, Counter[Identity]] = field(default_factory=dict)
    answered: dict[str, Counter[Identity]] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)


def hostile(ingress: str) -> list[Case]:
    return cases.common() + (cases.framing() if ingress == "h1" else cases.pseudo())


async def converse(sender: Sender, todo: Iterable[Case], run: Run) -> None:
    """Say all cases, one after another where they share a connection."""
    places = asyncio.Semaphore(AT_ONCE if sender.protocol == "h1" else 1)

    async def say(case: Case) -> None:
        async with places:
            run.answers.setdefault(case.kind, Counter())[await sender.say(case)] += 1

    await asyncio.gather(*(say(case) for case in todo))
    await sender.close()


async def attack(ingress: str, egress: str, directory: Path) -> Run:
    """Say every case to a proxy with two upstreams, the second behind another path."""
    run = Run()
    log = directory / "access.log"
    async with Recorder(egress) as opened, Recorder(egress) as closed:
        address = f"http://127.0.0.1:{opened.port}"
        protocol = "http2" if egress == "h2" else "http1"
        settings = configuration(directory, address, protocol=protocol)
        upstream = settings["upstream"].pop("backend") | {
            # Nothing that a case does may take the backend away from the next.
            "outlier_detection": {"enabled": False},
        }
        other = [{"id": "two", "address": f"http://127.0.0.1:{closed.port}"}]
        settings["upstream"] = {
            "opened": upstream | {"route": {"host": "localhost", "path_prefix": "/open"}},
            "closed": upstream | {"route": {"path_prefix": "/"}, "backends": other},
        }
        # A fast machine says more in a second than one source may.
        many = {
            "new_connections_per_source_per_sec": 10_000,
            "new_connections_per_source_burst": 10_000,
        }
        settings["performance"] |= many | {"new_connections_per_sec": 10_000}
        settings["access_log"] = {"enabled": True, "format": "json", "path": str(log)}
        proxy = spooky.Proxy(settings)
        await proxy.start()
        await converse(Sender(ingress, proxy.port), hostile(ingress), run)
        await proxy.close()
    run.seen = {"opened": opened.seen, "closed": closed.seen}
    for line in map(json.loads, log.read_text().splitlines()):
        if line["upstream_protocol"] is None:
            continue
        found = (line["method"], line["path"], line["authority"], line["bytes_received"])
        run.logged.setdefault(line["upstream"], Counter())[found] += 1
        if line["status"] == 200:
            run.answered.setdefault(line["upstream"], Counter())[found] += 1
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    return {
        (ingress, egress): uvloop.run(attack(ingress, egress, tmp_path_factory.mktemp("grid")))
        for ingress in INGRESSES
        for egress in EGRESSES
    }


PAIRS = [(ingress, egress) for ingress in INGRESSES for egress in EGRESSES]


@pytest.mark.parametrize("pair", PAIRS, ids="-to-".join)
def test_backends_get_what_spooky_understood_and_where_it_routed_it(
    runs: dict[tuple[str, str], Run], pair: tuple[str, str]
) -> None:
    run = runs[pair]
    for upstream, seen in run.seen.items():
        whole = Counter(request.logged for request in seen if not request.error)
        logged, answered = (
            run.logged.get(upstream, Counter()),
            run.answered.get(upstream, Counter()),
        )
        assert whole - logged == Counter(), upstream
        assert answered - whole == Counter(), upstream
        # A message that the client did not end is cut off, so that no backend takes it for whole.
        cut = [request.error for request in seen if request.error]
        assert all(error.startswith("peer closed connection") for error in cut), cut


def test_most_hostile_requests_are_refused_and_none_is_passed_over(
    runs: dict[tuple[str, str], Run],
) -> None:
    assert len(cases.common()) >= 300
    for pair, run in runs.items():
        assert sum(map(Counter.total, run.answers.values())) == len(hostile(pair[0]))
        passed = sum(answers["200"] for answers in run.answers.values())
        assert 0 < passed < len(hostile(pair[0])) / 3, pair


async def misunderstood(
    origin: Origin, egress: str, seen: Iterable[Seen], directory: Path
) -> tuple[list[str], int]:
    """Replay requests to an origin; return what it took differently, and how many it refused."""
    wrong: list[str] = []
    refused = 0
    places = asyncio.Semaphore(AT_ONCE)

    async def replay(port: int, request: Seen) -> None:
        nonlocal refused
        async with places:
            try:
                if origin.parse is not None:
                    found = origin.parse(request.raw + CANARY)
                elif egress == "h1":
                    found = await replay_h1(port, request.raw + CANARY)
                else:
                    found = await replay_h2(port, request)
            except RefusalError:
                refused += 1
                return
        problem = difference(request.identity, found)
        if problem:
            wrong.append(f"{problem}: {(request.raw or request.fields)!r}"[:600])

    if origin.parse is not None:
        await asyncio.gather(*(replay(0, request) for request in seen))
    else:
        async with running(origin, egress, directory) as port:
            await asyncio.gather(*(replay(port, request) for request in seen))
    return wrong, refused


def difference(expected: Identity, found: list[Identity]) -> str:
    """Say what an origin took differently; nothing where it is all the same."""
    if len(found) != 2:
        return f"{len(found)} requests for two"
    first, second = found
    if first[:3] != expected[:3] or first[3] not in (None, expected[3]):
        return f"{first} for {expected}"
    return "" if second[:3] == CANARY_IDENTITY else f"{second} for the canary"


CELLS = [(origin, egress) for origin in ORIGINS for egress in origin.protocols]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[1]}-{cell[0].name}")
def test_no_origin_takes_a_request_for_another(
    runs: dict[tuple[str, str], Run],
    understood: dict[tuple[str, str], Cell],
    cell: tuple[Origin, str],
    tmp_path: Path,
) -> None:
    origin, egress = cell
    told = {
        (request.raw, *request.fields, request.body, *request.trailers): request
        for (_, of), run in runs.items()
        if of == egress
        for seen in run.seen.values()
        for request in seen
        if not request.error
    }
    wrong, refused = uvloop.run(misunderstood(origin, egress, told.values(), tmp_path))
    understood[origin.name, egress] = (len(told), refused, len(wrong))
    assert wrong == []
    assert refused < len(told)


@pytest.fixture(scope="module")
def understood(runs: dict[tuple[str, str], Run]) -> Iterator[dict[tuple[str, str], Cell]]:
    """Collect what origins made of requests; at the end, print the grid as tables."""
    cells: dict[tuple[str, str], Cell] = {}
    yield cells
    lines = ["", "| Tampered with | " + " | ".join("-".join(pair) for pair in PAIRS) + " |"]
    lines.append("| --- |" + " --- |" * len(PAIRS))
    for kind in dict.fromkeys(case.kind for ingress in INGRESSES for case in hostile(ingress)):
        found = [runs[pair].answers.get(kind, Counter()) for pair in PAIRS]
        counts = [f"{of['200']} of {of.total()}" if of else "" for of in found]
        lines.append(f"| {kind} | " + " | ".join(counts) + " |")
    lines += ["", "| Origin | Protocol | Requests | Refused | Misunderstood |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for (name, egress), cell in cells.items():
        lines.append(f"| {name} | {egress} | " + " | ".join(map(str, cell)) + " |")
    print("\n".join(lines))
