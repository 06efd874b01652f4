"""``spooky why``: the life of a request, from the rings of workers alive and dead."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from spooky._core import COMPILED, reasons
from spooky._core.decisions import RING_MIN_BYTES, Admitted, Notes
from spooky.config import from_mapping
from spooky.control.changes import Changes
from spooky.control.lives import Lives, UnknownRequestError
from spooky.observe.decisions import NoteKind, decode, ring_of
from spooky.observe.segment import private_segment
from spooky.upstream.excluded import EXCLUDED_MAX
from tests.control.serve import served
from tests.support.proxy import configuration, run
from tests.support.waiting import PATIENCE_SECONDS, until

ID = "0000000001000000%02x"


class Fixture:
    """Lives over a segment of one slot, and a configuration in force as generation 2."""

    def __init__(self, directory: Path, balancing: str = "round-robin") -> None:
        settings = configuration(directory, "http://127.0.0.1:1")
        settings["load_balancing"] = {"type": balancing}
        api = settings["upstream"]["backend"]
        api["backends"] = [
            {"id": name, "address": f"http://127.0.0.1:{port}"}
            for port, name in enumerate(("one", "two", "three"), 1)
        ]
        api["route"] = {"host": "example.com"}
        settings["routes"] = [{"upstream": "backend", "host": "example.com", "path_prefix": "/api"}]
        changes = SimpleNamespace(
            running=SimpleNamespace(configuration=from_mapping(settings)),
            record=SimpleNamespace(number=2),
            history={},
        )
        self.segment = private_segment()
        self.lives = Lives(self.segment, cast(Changes, changes))
        self.ring = ring_of(self.segment, 0)
        self.ring.resize(RING_MIN_BYTES)

    def write(self, number: int = 1, notes: Notes | None = None, **other: Any) -> None:
        """Write what became of a request."""
        now = time.monotonic()
        admitted = Admitted()
        admitted.add("machine", 3, 9)
        values: dict[str, Any] = {
            "request_id": ID % number, "generation": 2, "started": now - 2,
            "connected": now - 1.5, "first_byte": now - 1, "ended": now,
            "reason": reasons.COMPLETED.index, "status": 200, "received": 1, "sent": 2,
            "protocol": "h3", "upstream_protocol": "h2", "upstream": "backend", "backend": "two",
            "method": b"GET", "host": b"Example.com:443", "path": b"/api/x",
            "admitted": admitted, "notes": notes, **other,
        }  # fmt: skip
        assert self.ring.write(**values)


@pytest.fixture
def known(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_a_request_is_told_with_its_route_its_backend_and_its_times(known: Fixture) -> None:
    known.write()
    life = known.lives.life(ID % 1)
    assert (life.worker, life.status, life.reason, life.stage) == (0, 200, "completed", "end")
    assert (life.protocol, life.upstream_protocol) == ("h3", "h2")
    assert life.route is not None
    assert (life.route.route, life.route.decided_by) == ("example.com/api", "path_length")
    assert life.route.candidates == ("example.com/api -> backend", "example.com/ -> backend")
    assert life.backend is not None
    states = {one.id: one.state for one in life.backend.candidates}
    assert states == {"one": "candidate", "two": "chosen", "three": "candidate"}
    assert [(one.stage, one.value, one.limit) for one in life.admission] == [("machine", 3, 9)]
    moments = [(event.event, round(event.at_ms, -2)) for event in life.events]
    assert moments == [
        ("began", 0), ("try_began", 0), ("connected", 500), ("answered", 1000), ("ended", 2000),
    ]  # fmt: skip
    (only,) = life.tries
    assert (only.number, only.backend, only.hedge, only.began_ms) == (1, "two", False, 0)
    assert (round(only.ended_ms), only.status, only.reason) == (2000, 200, "completed")


def test_each_try_is_told_with_its_time_and_its_outcome(known: Fixture) -> None:
    notes = Notes()
    began = time.monotonic() - 2
    notes.add(NoteKind.WAITED, began, reasons.BACKEND_INFLIGHT.index, "backend", 8, 8)
    notes.add(NoteKind.ENTERED, began + 0.1, reasons.BACKEND_INFLIGHT.index, "backend")
    notes.add(NoteKind.TRY_BEGAN, began + 0.1, 0, "one", 1)
    notes.add(NoteKind.TRY_ENDED, began + 0.2, reasons.UPSTREAM_CONNECTION_LOST.index, "one")
    notes.add(NoteKind.TRY_BEGAN, began + 0.2, 0, "one", 2)
    notes.add(NoteKind.TRY_ENDED, began + 0.5, reasons.UPSTREAM_STATUS.index, "one", 503)
    notes.add(NoteKind.TRY_BEGAN, began + 0.5, 0, "two", 3)
    notes.add(NoteKind.HEDGE_BEGAN, began + 0.7, 0, "three", 200)
    notes.add(NoteKind.TRY_ENDED, began + 1.5, reasons.HEDGE_LOST.index, "three")
    notes.add(NoteKind.TRY_ENDED, began + 1.6, 0, "unknown")
    known.write(notes=notes, started=began, ended=began + 2)
    told = [
        (one.number, one.backend, one.hedge, one.began_ms, round(one.ended_ms), one.status,
         one.reason)
        for one in known.lives.life(ID % 1).tries
    ]  # fmt: skip
    assert told == [
        (1, "one", False, 100, 200, None, "upstream_connection_lost"),
        (2, "one", False, 200, 500, 503, "upstream_status"),
        (3, "two", False, 500, 2000, 200, "completed"),
        (4, "three", True, 700, 1500, None, "hedge_lost"),
    ]


def test_the_only_try_of_who_waited_began_as_it_found_a_place(known: Fixture) -> None:
    notes = Notes()
    began = time.monotonic() - 2
    for waited in (0.1, 0.4):
        notes.add(NoteKind.ENTERED, began + waited, reasons.ROUTE_CAP.index, "route")
    known.write(notes=notes, started=began)
    known.write(2, notes=notes, started=began, backend="", status=503)
    life = known.lives.life(ID % 1)
    assert [one.began_ms for one in life.tries] == [400]
    assert [event.event for event in life.events][:4] == [
        "began", "entered", "entered", "try_began",
    ]  # fmt: skip
    assert known.lives.life(ID % 2).tries == ()


def test_what_was_out_of_the_ordinary_is_told_in_order(known: Fixture) -> None:
    notes = Notes()
    began = time.monotonic() - 2
    full = reasons.BACKEND_INFLIGHT
    notes.add(NoteKind.REFUSED, began + 0.1, full.index, "backend", 8, 8)
    notes.add(NoteKind.TRY_BEGAN, began + 0.2, 0, "two", 2)
    notes.add(NoteKind.EXCLUDED, began + 0.3, reasons.NO_BACKEND.index, "one", 1)
    notes.add(NoteKind.TRY_ENDED, began + 1.2, reasons.UPSTREAM_REFUSED.index, "two")
    known.write(notes=notes)
    life = known.lives.life(ID % 1)
    assert [event.event for event in life.events] == [
        "began", "refused", "try_began", "excluded", "connected", "answered", "try_ended",
        "ended",
    ]  # fmt: skip
    assert life.events[1].text == f"backend refused it (8 of 8): {full.text}"
    assert life.events[6].reason == "upstream_refused"
    assert life.backend is not None
    found = {one.id: (one.state, one.text) for one in life.backend.candidates}
    assert found == {
        "two": ("chosen", ""), "one": ("excluded", "its checks fail"), "three": ("candidate", ""),
    }  # fmt: skip
    assert life.backend.text == "it was its turn, of 2 that could be chosen"


def test_a_choice_is_told_with_its_scores_and_who_was_passed_over(tmp_path: Path) -> None:
    known = Fixture(tmp_path, "least-request")
    admitted = Admitted()
    admitted.add("global", 1, 9)
    admitted.add_candidate(1, True, 3, 50.0, -1.0, 0.06)
    admitted.add_candidate(0, False, 9, 100.0, -1.0, 0.09)
    known.write(admitted=admitted)
    backend = known.lives.life(ID % 1).backend
    assert backend is not None
    assert (
        backend.text == "it was the less loaded of two that were drawn, of 3 that could be chosen"
    )
    assert "least wins" in backend.scores
    told = [(one.id, one.state, one.in_flight, one.weight, one.score) for one in backend.candidates]
    assert told == [
        ("two", "chosen", 3, 50, pytest.approx(0.06)),
        ("one", "compared", 9, 100, pytest.approx(0.09)),
        ("three", "candidate", None, None, None),
    ]
    notes = Notes()
    open_ = reasons.CIRCUIT_OPEN
    notes.add(NoteKind.PASSED_OVER, time.monotonic(), open_.index, "three", 2, 8)
    known.write(2, notes=notes, admitted=admitted)
    backend = known.lives.life(ID % 2).backend
    assert backend is not None
    assert backend.text.startswith("it let the request in, which those that were preferred did not")
    assert [(one.id, one.text) for one in backend.candidates if one.state == "passed_over"] == [
        ("three", f"{open_.text} (2 of 8)")
    ]


def test_numbers_of_candidates_that_are_none_do_no_harm(known: Fixture) -> None:
    admitted = Admitted()
    for wrong in (float("inf"), float("nan")):
        admitted.add_candidate(1, True, 3, wrong, wrong, wrong)
    admitted.add_candidate(60_000, True, 3, 1.0, 1.0, 1.0)
    known.write(admitted=admitted)
    backend = known.lives.life(ID % 1).backend
    assert backend is not None
    assert {one.score for one in backend.candidates} == {None}


@pytest.mark.parametrize("cut", [False, True], ids=["as many as are noted", "notes were cut"])
def test_no_backends_are_counted_where_others_may_have_been_out_too(
    known: Fixture, cut: bool
) -> None:
    notes = Notes()
    if cut:
        while notes.add(NoteKind.TRY_ENDED, time.monotonic() - 1, 0, "one"):
            pass
    for number in range(EXCLUDED_MAX):
        notes.add(NoteKind.EXCLUDED, time.monotonic() - 1, 0, f"b{number}")
    known.write(notes=notes)
    backend = known.lives.life(ID % 1).backend
    assert backend is not None
    assert backend.text == "it was its turn"


def test_a_request_that_no_route_takes_is_told_as_such(known: Fixture) -> None:
    known.write(
        upstream="", backend="", connected=-1, first_byte=-1, status=404, host=b"example.org",
        reason=reasons.NO_ROUTE.index,
    )  # fmt: skip
    life = known.lives.life(ID % 1)
    assert life.route is not None
    assert (life.route.upstream, life.route.decided_by) == (None, "no_match")
    assert life.backend is None
    known.write(2, upstream="", backend="", reason=reasons.BODY_TOO_LARGE.index, status=413)
    assert known.lives.life(ID % 2).route is None


def test_nobody_says_why_once_the_generation_or_the_path_is_gone(known: Fixture) -> None:
    known.write(generation=1)
    life = known.lives.life(ID % 1)
    assert life.route is not None
    assert life.route.decided_by == "unknown"
    assert "kept no more" in life.route.text
    assert "kept no more" in life.backend.text
    known.write(2, upstream="other", path=b"/api/" + b"x" * 900)
    assert "beginning of the path" in known.lives.life(ID % 2).route.text
    known.write(3, upstream="other")
    assert "routes otherwise" in known.lives.life(ID % 3).route.text


def test_a_request_that_is_not_known_is_refused_with_the_reason(known: Fixture) -> None:
    with pytest.raises(UnknownRequestError, match="no worker slot 1"):
        known.lives.life("01" + ID[2:] % 1)
    with pytest.raises(UnknownRequestError, match="still in flight, or from before"):
        known.lives.life(ID % 1)
    for number in range(600):
        known.ring.write(
            f"00{number:016x}", 2, 0, 0, 0, time.monotonic() - 30, 0, 0, 0, 0, "", "", "", "",
            b"", b"", b"",
        )  # fmt: skip
    for number in range(600):
        known.write(number % 256)
    with pytest.raises(UnknownRequestError, match=r"in the last \d+ s .*decisions\.bytes"):
        known.lives.life("00" + "f" * 16)
    known.ring.resize(0)
    with pytest.raises(UnknownRequestError, match=r"decisions\.bytes is 0"):
        known.lives.life(ID % 1)
    for wrong, why in (("abc", "18 digits"), ("0" * 17 + "G", "hexadecimal")):
        with pytest.raises(ValueError, match=why):
            known.lives.life(wrong)


@pytest.mark.parametrize("moment", ["started", "connected", "first_byte", "ended"])
@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), float("nan")])
def test_a_record_with_moments_that_are_none_is_unknown(
    known: Fixture, moment: str, wrong: float
) -> None:
    known.write(**{moment: wrong})
    with pytest.raises(UnknownRequestError):
        known.lives.life(ID % 1)


@pytest.mark.parametrize("wrong", [-1e300, -1.0, 1e300, 1e12])
def test_a_record_that_began_before_the_clock_or_after_now_is_unknown(
    known: Fixture, wrong: float
) -> None:
    known.write(started=wrong)
    with pytest.raises(UnknownRequestError):
        known.lives.life(ID % 1)


def test_a_record_too_short_to_be_one_says_nothing() -> None:
    assert decode(0, b"\x08\0\0\0\x01\0\0\0") is None


@pytest.mark.parametrize("wrong", [float("inf"), float("nan"), 1e300])
def test_notes_with_numbers_that_are_none_do_no_harm(known: Fixture, wrong: float) -> None:
    notes = Notes()
    for kind in NoteKind:
        notes.add(kind, time.monotonic(), 0, "one", wrong, wrong, wrong, wrong)
        notes.add(kind, wrong, 0, "two", 1.0)
    known.write(notes=notes)
    life = known.lives.life(ID % 1)
    assert {event.event for event in life.events} >= {kind.name.lower() for kind in NoteKind}
    json.loads(msgspec.json.encode(life))


@pytest.mark.skipif(not COMPILED, reason="a dead worker is replaced by the twins too, but slowly")
def test_the_commands_tell_of_requests_and_of_what_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    def with_log(settings: dict[str, Any]) -> None:
        settings["access_log"] = {"path": str(log), "format": "json"}
        settings["upstream"]["backend"]["route"]["host"] = "localhost"

    async def scenario() -> None:
        async with served(tmp_path, 1, with_log) as proxy:
            client = await proxy.client("h3")
            assert (await client.fetch("GET", "/status/200")).status == 200
            await until(lambda: "\n" in log.read_text())
            request_id = json.loads(log.read_text().splitlines()[0])["request_id"]
            code, output = await proxy.command("why", request_id)
            assert code == 0, output
            for part in (
                "GET", "/status/200 over h3", "200, completed", "it is the only route that matches",
                "backend    one over http/1.1 (round-robin)", " let it in: 1 of",
                "try 1      at one from 0.000 to ", "200, completed",
            ):  # fmt: skip
                assert part in output
            os.kill(proxy.workers[0], signal.SIGKILL)
            code, output = await proxy.command("why", "--json", request_id)
            assert code == 0, output
            life = json.loads(output)
            assert (life["status"], life["backend"]["id"]) == (200, "one")
            code, output = await proxy.command("why", request_id[:10] + "f" * 8)
            assert code == 1
            assert "ended no such request" in output
            assert (await proxy.command("why", "nonsense"))[0] == 2
            code, output = await proxy.command("top", "--once", "--json", "--interval", "0.1")
            assert code == 0, output
            assert json.loads(output)["upstreams"][0]["name"] == "backend"
            code, output = await proxy.command("top", "--interval", "0.1")
            assert code == 0, output
            assert "backend/one" in output

    run(scenario)


def test_a_retry_an_ejection_a_wait_and_a_shed_are_explained(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    def change(settings: dict[str, Any]) -> None:
        settings["access_log"] = {"path": str(log), "format": "json"}
        settings["performance"]["inflight_acquire_wait_ms"] = 20_000
        settings["resilience"] = {
            "circuit_breaker": {"failure_threshold": 50},
            # It is looked 20 times a second who fails too often; until then half of them do.
            "retry_budget": {"min_retries": 10_000},
        }
        upstream = settings["upstream"]["backend"]
        address = upstream["backends"][0]["address"]
        upstream["backends"].append({"id": "gone", "address": "http://127.0.0.1:1"})
        upstream["load_balancing"] = {"type": "least-request"}
        settings["upstream"]["narrow"] = {
            "route": {"path_prefix": "/wait", "max_inflight": 1},
            "backends": [{"id": "slow", "address": address}],
        }

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            client = await proxy.client("h3")

            async def why(path: str, **wanted: Any) -> str:
                """Explain the last request for a path whose line in the log is as wanted."""
                lines: list[dict[str, Any]] = []

                def find() -> bool:
                    every = (json.loads(line) for line in log.read_text().splitlines())
                    lines[:] = [
                        line
                        for line in every
                        if line["path"] == path and wanted.items() <= line.items()
                    ]
                    return bool(lines)

                await until(find)
                code, output = await proxy.command("why", lines[-1]["request_id"])
                assert code == 0, output
                return output

            # Failures until one of the two backends is ejected; each is made good by the other.
            while "gone of backend is ejected" not in proxy.log:
                assert (await client.fetch("GET", "/status/200")).status == 200
            retried = await why("/status/200", tries=2)
            for part in (
                "try 1      at gone from ", " ms: connect_refused: ", "try 2      at one from ",
                "the try at gone ended: The backend refused the connection", "try 2 began at one",
                "one: chosen", "weight 100", "scores are requests in flight over weight",
                "upstream let it in: 1 of", "backend let it in: 1 of",
            ):  # fmt: skip
                assert part in retried, retried
            # Workers follow within 0.1 s of a machine that is idle.
            async with asyncio.timeout(PATIENCE_SECONDS):
                rerouted = ""
                while "gone: excluded" not in rerouted:
                    assert (await client.fetch("GET", "/status/204")).status == 204
                    rerouted = await why("/status/204")
            for part in (
                "backend    one over http/1.1 (least-request): ",
                "it is the only backend that could be chosen",
                "gone: excluded; it is ejected (", "one: chosen; score 0, 0 in flight",
            ):  # fmt: skip
                assert part in rerouted, rerouted

            # One has the only place, one may wait for it, and for a third there is no room.
            first = asyncio.create_task(client.fetch("GET", "/wait"))
            await proxy.origin.gate.reached.wait()
            second = asyncio.create_task(client.fetch("GET", "/wait"))
            shed = asyncio.create_task(client.fetch("GET", "/wait"))
            done, _ = await asyncio.wait({second, shed}, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result().status for task in done] == [503]
            refused = await why("/wait", status=503)
            assert "503, route_cap (admit)" in refused
            assert "route refused it (1 of 1): " in refused
            assert "backend    none was chosen" in refused
            assert "admission  upstream let it in: 2 of " in refused
            proxy.origin.gate.opened.set()
            assert {(await task).status for task in {first, second, shed} - done} == {200}
            await asyncio.sleep(0.1)
            waited = await why("/wait", status=200)
            for part in ("waited for a place at route (1 of 1): ", "found a place at route",
                         "route let it in: 1 of 1"):  # fmt: skip
                assert part in waited, waited

    run(scenario)
