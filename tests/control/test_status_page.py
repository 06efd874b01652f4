"""The status page: what it shows, that no text in it becomes markup, and who may see it."""

import asyncio
import base64
import os
import signal
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from spooky._core import COMPILED
from spooky.control.answers import (
    Activity,
    AdaptiveActivity,
    BackendActivity,
    BackendView,
    CertificateView,
    GenerationList,
    ListenerView,
    Runtime,
    Summary,
    UpstreamActivity,
    UpstreamView,
    WorkerView,
)
from spooky.control.latency_plot import latency_plot
from spooky.control.state import State
from spooky.control.status_page import KEPT_SECONDS, PLOTS_MAX, ROWS_MAX, StatusPage, asset, render
from tests.control.control_api import TOKENS, ask, port_of, with_tokens
from tests.control.serve import served
from tests.support.proxy import run
from tests.support.tls import plain_context

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
PARTS = ("/status", "/status/script.js", "/status/style.css")


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.said += data
        if self.cells:
            self.cells[-1] += data


def summary(number: int = 4, **other: Any) -> Summary:
    values: dict[str, Any] = {
        "number": number, "time": 1e9, "source": "reload", "path": "/etc/spooky.yaml", "origin": 1,
        "requested_by": "anna", "reason": "new disks", "overrides": (), "digest": "ab",
        "unproven": False, **other,
    }  # fmt: skip
    return Summary(**values)


def runtime(**other: Any) -> Runtime:
    values: dict[str, Any] = {
        "version": "1.0", "pid": 7, "started": time.time() - 60, "source": "/etc/spooky.yaml",
        "ready": True, "state": State.SERVING, "generation": summary(), "probation": None,
        "overrides": (), "workers": (WorkerView(0, 77, False, 0.5),), "worker_restarts": 3,
        "listeners": (ListenerView("192.0.2.9", 443),),
        "certificates": (CertificateView("here:443", ("a.example",), "ff", "", "2031", 86400),),
        **other,
    }  # fmt: skip
    return Runtime(**values)


def backend(name: str = "one", **other: Any) -> BackendActivity:
    values: dict[str, Any] = {
        "upstream": "api", "id": name, "state": "enabled", "health": "ok", "ejected_seconds": 0.0,
        "breaker": "closed", "weight": 3, "in_flight": 2, "limit": 8,
        "requests": {"2xx": 90, "5xx": 11}, **other,
    }  # fmt: skip
    return BackendActivity(**values)


def activity(*backends: BackendActivity, **other: Any) -> Activity:
    upstream = UpstreamActivity(
        name="api", in_flight=5, limit=9, adaptive=AdaptiveActivity(64, 4, 2.5),
        requests={"2xx": 90, "5xx": 11}, latencies=(50, 40, 11),
    )  # fmt: skip
    values: dict[str, Any] = {
        "time": 12.0, "generation": 4, "bounds": (0.01, 0.1), "connections": {"quic": 6},
        "in_flight": 5, "limit": 99, "upstreams": (upstream,), "backends": backends or (backend(),),
        "sheds": {"queue_timeout": 17}, "refused": {"connection_cap": 19},
        "actions": {"stop_keep_alive": 1}, **other,
    }  # fmt: skip
    return Activity(**values)


def view(**other: Any) -> UpstreamView:
    one = BackendView("api", "one", "http://10.0.0.1", "enabled", 3, 2, ("weight",))
    return UpstreamView("api", "http1", "least-request", 5, (replace(one, **other),))


def page(**other: Any) -> Page:
    made: dict[str, Any] = {
        "runtime": runtime(), "activity": activity(), "upstreams": (view(),),
        "history": GenerationList(4, [summary(), summary(3, requested_by="bert")]), **other,
    }  # fmt: skip
    return Page(render(**made))


def test_all_that_runs_and_goes_on_is_shown_without_a_script() -> None:
    shown = page()
    for part in (
        "serving", "version 1.0", "4, in force", "anna", "new disks", "bert", "192.0.2.9", "443",
        "a.example", "http1, least-request", "5 of 9", "4 of 64", "2.5", "http://10.0.0.1",
        "3 (overridden)", "2 of 8", "queue_timeout", "17", "connection_cap", "19",
        "stop_keep_alive", "quic", "3 replaced", "101 requests since the start",
    ):  # fmt: skip
        assert part in shown.said, part
    # Half of 101 are in the first bucket and a little of the second.
    assert "11.1" in shown.cells
    assert shown.tags.count("svg") == 1
    assert shown.tags.count("rect") == 3


def test_why_a_backend_gets_nothing_is_shown() -> None:
    ejected = backend(health="ejected: consecutive_errors", ejected_seconds=29.6, breaker="open")
    shown = page(activity=activity(ejected, backend("two", state="drained", breaker=None)))
    assert "ejected: consecutive_errors, for 30 s more" in shown.cells
    assert {"open", "drained", "–"} <= set(shown.cells)


def test_a_probation_is_shown_with_its_time_and_its_verdict() -> None:
    watching = {
        "generation": 4, "verdict": "watching", "seconds": 60.0, "seconds_left": 41.6, "reason": "",
    }  # fmt: skip
    assert "4 on probation: 42 s of 60 s left" in page(runtime=runtime(probation=watching)).said
    failed = {**watching, "verdict": "rolled_back", "reason": "more 5xx"}
    assert "rolled back: more 5xx" in page(runtime=runtime(probation=failed)).said


def test_no_text_becomes_markup() -> None:
    """Names, reasons and paths come from files and callers."""
    plain = page()
    upstream = replace(activity().upstreams[0], name=EVIL)
    evil = page(
        runtime=runtime(
            version=EVIL,
            certificates=(CertificateView(EVIL, (EVIL,), EVIL, EVIL, EVIL, 1),),
            listeners=(ListenerView(EVIL, 1),),
            probation={"generation": 4, "verdict": EVIL, "seconds": 1, "reason": EVIL},
        ),
        activity=activity(
            backend(EVIL, upstream=EVIL, state=EVIL, health=EVIL, breaker=EVIL),
            upstreams=(upstream,), sheds={EVIL: 1}, refused={EVIL: 1}, actions={EVIL: 1},
            connections={EVIL: 1},
        ),
        upstreams=(view(address=EVIL),),
        history=GenerationList(4, [summary(requested_by=EVIL, reason=EVIL, path=EVIL)]),
    )  # fmt: skip
    assert set(evil.tags) == set(plain.tags)
    assert evil.tags.count("script") == 1
    assert {name for name, _ in evil.attributes} == {name for name, _ in plain.attributes}
    assert evil.said.count(EVIL) > 15
    assert "onerror" not in dict(evil.attributes)


def test_what_is_no_character_does_no_harm() -> None:
    shown = page(history=GenerationList(4, [summary(path="/a\udcff\x00b", reason="\x1b[2J")]))
    assert "/a?" in shown.said


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    """The policy would keep a browser from it, so it would not work."""
    names = {name for name, _ in page().attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"style"})
    fetched = [value for name, value in page().attributes if name in ("src", "href")]
    assert fetched == ["/status/style.css", "/status/script.js"]
    assert "http" not in asset("status.css")
    assert asset("status.js").count("http") == asset("status.js").count(
        "http://www.w3.org/2000/svg"
    )
    assert "innerHTML" not in asset("status.js")


def test_of_very_many_backends_those_that_are_not_well_are_shown_first() -> None:
    many = [backend(f"b{n}", upstream="api") for n in range(ROWS_MAX + 50)]
    many[-1] = backend("sick", health="failing")
    shown = page(activity=activity(*many))
    assert "sick" in shown.cells
    assert "and 50 more" in shown.said


def test_of_very_many_upstreams_those_with_the_most_failures_are_shown_first() -> None:
    one = activity().upstreams[0]
    many = [replace(one, name=f"u{n}", requests={"2xx": 9}) for n in range(ROWS_MAX + 50)]
    many[-1] = replace(one, name="sick", requests={"5xx": 1})
    many[-2] = replace(one, name="", requests={})
    shown = page(activity=activity(upstreams=tuple(many)))
    assert "sick" in shown.cells
    assert "and 49 more" in shown.said


def test_requests_of_all_upstreams_are_told_to_the_script_plotted_or_not() -> None:
    one = activity().upstreams[0]
    many = [replace(one, name=f"u{n}") for n in range(2 * PLOTS_MAX)]
    many.append(replace(one, name="", requests={"4xx": 7}))
    shown = page(activity=activity(upstreams=tuple(many)))
    assert shown.tags.count("figure") == PLOTS_MAX
    assert dict(shown.attributes)["data-ended"] == str(101 * 2 * PLOTS_MAX + 7)
    assert "now.ended - before.ended" in asset("status.js")


def test_the_script_is_read_once() -> None:
    """An installation may replace it under a program that runs."""
    assert asset("status.js") is asset("status.js")


def test_an_idle_upstream_has_no_plot_and_many_viewers_cost_one_page() -> None:
    asked = []

    def look() -> Activity:
        asked.append(time.monotonic())
        return activity(upstreams=(replace(activity().upstreams[0], latencies=(0, 0, 0)),))

    made = StatusPage(runtime, look, lambda: (view(),), lambda: GenerationList(4, []))
    pages = {made.text() for _ in range(20)}
    assert len(pages) == 1
    assert "No request has ended yet." in pages.pop()
    assert len(asked) <= 1 + (time.monotonic() - asked[0]) / KEPT_SECONDS


def test_a_plot_has_a_bar_for_each_bucket_as_high_as_its_share() -> None:
    plot = latency_plot((0, 100, 1), (0.25, 2.5))
    heights = [float(bar.get("height", "")) for bar in plot.iter("rect")]
    assert heights[0] == 0
    assert heights[1] > 50 * heights[2] / 2 > 0
    titles = [bar.findtext("title") for bar in plot.iter("rect")]
    assert titles == ["0 up to 250 ms", "100 up to 2.5 s", "1 above 2.5 s"]


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()}


@pytest.mark.skipif(not COMPILED, reason="the twins know nothing of it")
def test_whoever_may_read_sees_the_page_and_nobody_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, lambda s: with_tokens(tmp_path, s)) as proxy:
            port = port_of(proxy)
            client = await proxy.client("h3")
            assert (await client.fetch("GET", "/status/200")).status == 200
            for part in PARTS:
                refused = await ask(port, part)
                assert refused.status == 401
                assert refused.headers["www-authenticate"].startswith('Basic realm="Spooky"')
                assert (await ask(port, part, "viewer")).status == 200
            answer = await ask(port, "/status", "viewer")
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-type"].startswith("text/html")
            shown = Page(answer.text)
            for part in (
                "1, in force",
                str(proxy.workers[0]),
                "backend",
                "one",
                proxy.origin.address,
            ):
                assert part in shown.said, part

            # No worker is asked: one that stands still holds nothing up.
            os.kill(proxy.workers[0], signal.SIGSTOP)
            await asyncio.sleep(KEPT_SECONDS)
            assert "1, in force" in (await ask(port, "/status", "viewer")).text
            os.kill(proxy.workers[0], signal.SIGCONT)

            # What a browser shows for a person: it may read and no more, whoever's token it is.
            assert (await ask(port, "/status", headers=basic(TOKENS["admin"]))).status == 200
            for wrong in (basic("x" * 40), {"Authorization": "Basic %%%"}):
                assert (await ask(port, "/status", headers=wrong)).status == 401
            reload = "/admin/runtime/reload"
            changed = await ask(port, reload, None, {}, headers=basic(TOKENS["admin"]))
            assert (changed.status, changed.json["code"]) == (403, "insufficient_role")
            # Nor does a page change anything, whatever the browser shows with it.
            of_a_page = {"Origin": "https://elsewhere.example"}
            changed = await ask(port, reload, "admin", {}, headers=of_a_page)
            assert (changed.status, changed.json["code"]) == (403, "from_a_page")
            assert (await ask(port, reload, "admin", {}, context=plain_context())).status == 200

    run(scenario)
