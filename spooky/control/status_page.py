"""The status page: what runs and what goes on, as HTML that is whole without a script.

It is made as a tree of elements, so that no text, whatever is in it, becomes markup. The script
only asks for the page again and draws.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final
from xml.etree.ElementTree import Element, tostring

from spooky._core import reasons
from spooky.control.answers import (
    Activity,
    BackendActivity,
    BackendView,
    GenerationList,
    Runtime,
    Summary,
    UpstreamActivity,
    UpstreamView,
)
from spooky.control.latency_plot import QUANTILES, latency_plot
from spooky.observe.quantiles import milliseconds

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: run its script, take its style, ask for itself. Nothing in it may be
inline, so that no text which got into it would run."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

ROWS_MAX: Final = 500
"""Backends, upstreams or generations in one table: what is not well comes first where there are
more."""

PLOTS_MAX: Final = 24
"""Upstreams whose latencies are drawn: those with the most requests."""

KEPT_SECONDS: Final = 1.0
"""How long a page is shown again, however many ask: making one takes the supervisor's time."""

_NOTHING: Final = "–"
_STATES: Final = {
    "enabled": "",
    "drained": "warn",
    "disabled": "quiet",
}
_TEXTS: Final = {reason.code: reason.text for reason in reasons.TABLE}

Cell = str | int | Element | None
Row = Sequence[Cell]


@cache
def asset(name: str) -> str:
    """Return a file that belongs to the page: its script, or its style sheet; read once."""
    return files("spooky.control").joinpath("assets", name).read_text("utf-8")


class StatusPage:
    """Makes the page, at most once in :data:`KEPT_SECONDS`.

    Arguments:
        runtime: Gives what runs.
        activity: Gives what goes on.
        upstreams: Gives the upstreams with their backends.
        history: Gives the generations that are kept.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime],
        activity: Callable[[], Activity],
        upstreams: Callable[[], Sequence[UpstreamView]],
        history: Callable[[], GenerationList],
    ) -> None:
        self._runtime = runtime
        self._activity = activity
        self._upstreams = upstreams
        self._history = history
        self._text = ""
        self._made = -KEPT_SECONDS

    def text(self) -> str:
        """Return the page."""
        now = time.monotonic()
        if now - self._made >= KEPT_SECONDS:
            self._text = render(
                self._runtime(), self._activity(), self._upstreams(), self._history()
            )
            self._made = now
        return self._text


def render(
    runtime: Runtime,
    activity: Activity,
    upstreams: Sequence[UpstreamView],
    history: GenerationList,
) -> str:
    """Return the page for one moment."""
    shed = sum(activity.sheds.values())
    main = _element(
        "main",
        _summary(activity, shed),
        _upstreams(activity, upstreams),
        _backends(activity, upstreams),
        _latencies(activity),
        _sheds(activity),
        _listeners(runtime),
        _workers(runtime),
        _generations(runtime, history),
    )
    main.set("data-time", f"{activity.time:.6f}")
    main.set("data-bounds", " ".join(map(str, activity.bounds)))
    main.set("data-ended", str(sum(sum(one.requests.values()) for one in activity.upstreams)))
    main.set("data-shed", str(shed))
    page = _element(
        "html",
        _element(
            "head",
            _element("meta", charset="utf-8"),
            _element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            _element("title", f"Spooky: {runtime.state.value}, generation {activity.generation}"),
            _element("link", rel="stylesheet", href="/status/style.css"),
            _element("script", src="/status/script.js", defer="defer"),
        ),
        _element("body", _header(runtime), main),
        lang="en",
    )
    # What is no character, such as half a surrogate pair in a path, is a question mark.
    text = tostring(page, encoding="unicode", method="html").encode("utf-8", "replace")
    return "<!doctype html>\n" + text.decode() + "\n"


def _header(runtime: Runtime) -> Element:
    now = time.time()
    uptime = timedelta(seconds=int(now - runtime.started))
    state = _element("span", runtime.state.value, **{"class": "good" if runtime.ready else "bad"})
    about = _element(
        "p", state, f", version {runtime.version}, process {runtime.pid}, up {uptime}; at "
        f"{_moment(now)}", id="about",
    )  # fmt: skip
    return _element(
        "header",
        _element("h1", "Spooky"),
        about,
        _element("p", _element("span", "as of this request", id="live")),
    )


def _summary(activity: Activity, shed: int) -> Element:
    tiles: list[tuple[str, str, str]] = [
        ("in-flight", f"{activity.in_flight} of {activity.limit}", "requests in flight"),
        ("rate", _NOTHING, "requests now"),
        ("shed", str(shed), "shed since the start"),
        ("shed-rate", _NOTHING, "shed now"),
    ]
    for transport, count in sorted(activity.connections.items()):
        tiles.append((f"connections-{transport}", str(count), f"connections by {transport}"))
    made = _element("dl", **{"class": "tiles"})
    for name, value, what in tiles:
        made.append(_element("div", _element("dt", what), _element("dd", value, id=name)))
    parts = [made]
    if activity.actions:
        taken = ", ".join(f"{name} ({n} workers)" for name, n in sorted(activity.actions.items()))
        parts.append(_element("p", f"Against overload: {taken}", **{"class": "warn"}))
    return _section("summary", "Now", *parts)


def _upstreams(activity: Activity, upstreams: Sequence[UpstreamView]) -> Element:
    kinds = {one.name: f"{one.protocol}, {one.balancing}" for one in upstreams}
    shown = [one for one in activity.upstreams if one.name or any(one.requests.values())]
    if len(shown) > ROWS_MAX:
        shown.sort(key=lambda one: -one.requests.get("5xx", 0))
    rows: list[Row] = []
    for one in shown[:ROWS_MAX]:
        adaptive: Cell = None
        if one.adaptive is not None:
            adaptive = f"{one.adaptive.unanswered} of {one.adaptive.limit}"
        rows.append(
            (
                one.name or "(no route)", kinds.get(one.name), *_counts(one.requests),
                *(_number(milliseconds(q, one.latencies, activity.bounds)) for q in QUANTILES),
                _flight(one.in_flight, one.limit), adaptive,
                _number(one.adaptive.minimum_ms or None) if one.adaptive is not None else None,
            )
        )  # fmt: skip
    titles = (
        "Upstream", "Protocol, balancing", *_COUNTED, "p50 ms", "p95 ms", "p99 ms", "In flight",
        "Adaptive limit", "Minimum ms",
    )  # fmt: skip
    parts = [_table(titles, rows, 2), *_more(len(shown))]
    return _section("upstreams", "Upstreams, since the start", *parts, wide=True)


def _backends(activity: Activity, upstreams: Sequence[UpstreamView]) -> Element:
    views = {(b.upstream, b.id): b for one in upstreams for b in one.backends}
    shown = list(activity.backends)
    if len(shown) > ROWS_MAX:
        shown.sort(key=_is_well)
    rows = [_backend(one, views.get((one.upstream, one.id))) for one in shown[:ROWS_MAX]]
    titles = (
        "Upstream", "Backend", "Address", "State", "Health", "Breaker", "Weight", *_COUNTED,
        "In flight",
    )  # fmt: skip
    parts = [_table(titles, rows, 6), *_more(len(shown))]
    return _section("backends", "Backends, since the start", *parts, wide=True)


def _is_well(one: BackendActivity) -> bool:
    return one.health == "ok" and one.state == "enabled" and one.breaker in (None, "closed")


def _backend(one: BackendActivity, view: BackendView | None) -> Row:
    overridden = view.overridden if view is not None else ()
    health = one.health
    if one.ejected_seconds:
        health += f", for {one.ejected_seconds:.0f} s more"
    breaker: Cell = None
    if one.breaker is not None:
        kind = {"closed": "good", "half_open": "warn"}.get(one.breaker, "bad")
        breaker = _element("span", one.breaker.replace("_", "-"), **{"class": kind})
    return (
        one.upstream, one.id, view.address if view is not None else None,
        _element(
            "span", one.state + ", overridden" * ("state" in overridden),
            **{"class": _STATES.get(one.state, "")},
        ),
        _element("span", health, **{"class": "good" if health == "ok" else "bad"}), breaker,
        f"{one.weight}{' (overridden)' * ('weight' in overridden)}", *_counts(one.requests),
        _flight(one.in_flight, one.limit),
    )  # fmt: skip


def _latencies(activity: Activity) -> Element:
    busy = sorted(
        (one for one in activity.upstreams if one.name and any(one.latencies)),
        key=lambda one: -sum(one.latencies),
    )
    figures = _element("div", **{"class": "plots"})
    for one in busy[:PLOTS_MAX]:
        figures.append(_figure(one, activity.bounds))
    if not busy:
        figures.append(_element("p", "No request has ended yet.", **{"class": "quiet"}))
    return _section("latencies", "Latencies", figures, wide=True)


def _figure(one: UpstreamActivity, bounds: Sequence[float]) -> Element:
    caption = f"{sum(one.latencies)} requests since the start, by how long they took"
    figure = _element(
        "figure",
        _element("h3", one.name),
        latency_plot(one.latencies, bounds),
        _element("figcaption", caption),
    )
    figure.set("data-upstream", one.name)
    figure.set("data-latencies", " ".join(map(str, one.latencies)))
    return figure


def _sheds(activity: Activity) -> Element:
    rows: list[Row] = [
        (what, code, _long(_TEXTS.get(code, _NOTHING)), count)
        for what, counts in (("request", activity.sheds), ("connection", activity.refused))
        for code, count in sorted(counts.items(), key=lambda one: -one[1])
    ]
    table = _table(("Of", "Reason", "Meaning", "Count"), rows, 3, "Nothing was shed.")
    return _section("sheds", "Shed and refused, since the start", table, wide=True)


def _generations(runtime: Runtime, history: GenerationList) -> Element:
    parts = [
        _table(
            ("Generation", "Since", "By", "How", "File", "Why"),
            [_generation(one, history.active_generation) for one in history.entries[:ROWS_MAX]],
            0,
        ),
        *_more(len(history.entries)),
    ]
    if runtime.probation is not None:
        parts.insert(0, _probation(runtime.probation))
    return _section("generations", "Generations", *parts, wide=True)


def _generation(one: Summary, active: int) -> Row:
    number = f"{one.number}, in force" if one.number == active else str(one.number)
    kind = "good" if one.number == active else ""
    return (
        _element("span", number + ", unproven" * one.unproven, **{"class": kind}),
        _moment(one.time), one.requested_by, one.source, _long(one.path), _long(one.reason),
    )  # fmt: skip


def _probation(status: Mapping[str, Any]) -> Element:
    text = f"Generation {status['generation']} on probation: "
    if status["verdict"] == "watching":
        text += f"{status['seconds_left']:.0f} s of {status['seconds']:.0f} s left"
        return _element("p", text, **{"class": "warn"})
    text += status["verdict"].replace("_", " ")
    return _element("p", text + (f": {status['reason']}" if status["reason"] else ""))


def _listeners(runtime: Runtime) -> Element:
    rows: list[Row] = [(one.address, one.port) for one in runtime.listeners]
    certificates: list[Row] = [
        (one.listener, _long(", ".join(one.names)), one.not_after[:10], one.seconds_left // 86400)
        for one in runtime.certificates
    ]
    return _section(
        "listeners",
        "Listeners",
        _table(("Address", "Port"), rows, 1),
        _table(("Listener", "Certificate of", "Until", "Days left"), certificates, 3),
    )


def _workers(runtime: Runtime) -> Element:
    rows: list[Row] = [
        (
            one.slot, one.pid, "leaving" if one.leaving else "serving",
            None if one.heartbeat_age_seconds is None else f"{one.heartbeat_age_seconds:.1f}",
        )
        for one in runtime.workers
    ]  # fmt: skip
    return _section(
        "workers",
        f"Workers, {runtime.worker_restarts} replaced",
        _table(("Slot", "Process", "State", "Heartbeat, s ago"), rows, 3),
    )


# --- parts ------------------------------------------------------------------------------------

_COUNTED: Final = ("2xx", "3xx", "4xx", "5xx", "Cut")


def _counts(requests: Mapping[str, int]) -> list[Cell]:
    counts: list[Cell] = [requests.get(kind, 0) for kind in ("2xx", "3xx", "4xx")]
    failed = requests.get("5xx", 0)
    counts.append(_element("span", str(failed), **{"class": "bad" if failed else ""}))
    counts.append(requests.get("none", 0))
    return counts


def _long(text: str) -> Element:
    """Return a text that may go over several lines."""
    return _element("span", text, **{"class": "long"})


def _flight(count: int, limit: int) -> Element:
    return _element("span", f"{count} of {limit}", **{"class": "warn" if count >= limit else ""})


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _more(count: int) -> list[Element]:
    if count <= ROWS_MAX:
        return []
    return [_element("p", f"and {count - ROWS_MAX} more", **{"class": "quiet"})]


def _section(name: str, title: str, *parts: Element, wide: bool = False) -> Element:
    attributes = {"class": "wide"} if wide or name == "summary" else {}
    return _element("section", _element("h2", title), *parts, id=name, **attributes)


def _table(
    titles: Sequence[str], rows: Iterable[Row], first_number: int, none: str = "None."
) -> Element:
    """Return a table; ``first_number`` is the first column of numbers, 0 for none."""
    body = _element("tbody")
    for row in rows:
        body.append(
            _element("tr", *(_cell("td", cell, at, first_number) for at, cell in enumerate(row)))
        )
    if not len(body):
        return _element("p", none, **{"class": "quiet"})
    head = (_cell("th", title, at, first_number) for at, title in enumerate(titles))
    return _element("table", _element("thead", _element("tr", *head)), body)


def _cell(tag: str, cell: Cell, at: int, first_number: int) -> Element:
    content = cell if isinstance(cell, Element) else _NOTHING if cell is None else str(cell)
    made = _element(tag, content)
    if first_number and at >= first_number:
        made.set("class", "number")
    return made


def _element(tag: str, *children: str | Element, **attributes: str) -> Element:
    """Return an element; texts among the children are texts, whatever they say."""
    made = Element(tag, {name: value for name, value in attributes.items() if value})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return made
