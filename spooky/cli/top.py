"""``spooky top``: what goes on, live."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spooky.cli.control_client import get, socket_option
from spooky.cli.errors import EXIT_OK, printable
from spooky.cli.json_option import json_option
from spooky.observe.quantiles import milliseconds

QUANTILES: Final = (0.5, 0.95, 0.99)

WHOLE_WIDTH: Final = 1000
"""Columns that are enough for every table."""

_OF_BACKEND: Final = ("upstream", "id", "state", "health", "breaker", "in_flight", "limit")

Sample = dict[str, Any]


@click.command()
@click.option("--once", is_flag=True, help="Show one interval and exit; so it is without a tty.")
@json_option("Print it as JSON, a line each interval.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the rates are measured.",
)
@socket_option
def command(once: bool, as_json: bool, interval: float, path: Path) -> int:
    """Watch upstreams and backends: rates, latencies, limits, breakers, what is shed and why.

    It reads what the workers count in shared memory; it asks none of them, however busy they are.
    Ctrl+C ends it.
    """
    before = _sample(path)
    if as_json or once or not sys.stdout.isatty():
        while True:
            time.sleep(interval)
            now = _sample(path)
            view = summarise(before, now)
            if as_json:
                click.echo(msgspec.json.encode(view).decode())
            else:
                # Whole, however narrow: what is cut would say less, or something else.
                Console(highlight=False, width=WHOLE_WIDTH).print(render(view))
            if once or not (as_json or sys.stdout.isatty()):
                return EXIT_OK
            before = now
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(render(summarise(before, now := _sample(path))), refresh=True)
            before = now
            time.sleep(interval)
    return EXIT_OK


def _sample(path: Path) -> Sample:
    sample: Sample = get(path, "/admin/runtime/activity")
    return sample


def summarise(before: Sample, now: Sample) -> dict[str, Any]:
    """Return what happened between two samples."""
    seconds = max(now["time"] - before["time"], 1e-9)
    old_upstreams = {one["name"]: one for one in before["upstreams"]}
    old_backends = {(one["upstream"], one["id"]): one for one in before["backends"]}
    return {
        "seconds": round(seconds, 3),
        "generation": now["generation"],
        "connections": now["connections"],
        "in_flight": now["in_flight"],
        "limit": now["limit"],
        "upstreams": [
            {
                "name": one["name"],
                "in_flight": one["in_flight"],
                "limit": one["limit"],
                "adaptive": one["adaptive"],
                **_rates(old_upstreams.get(one["name"]), one, seconds),
                **_latencies(old_upstreams.get(one["name"]), one, now["bounds"]),
            }
            for one in now["upstreams"]
            if one["name"] or any(one["requests"].values())
        ],
        "backends": [
            {
                **{key: one[key] for key in _OF_BACKEND},
                **_rates(old_backends.get((one["upstream"], one["id"])), one, seconds),
            }
            for one in now["backends"]
        ],
        "sheds": {
            reason: {
                "total": count,
                "per_second": round(_grown(count, before["sheds"].get(reason, 0)) / seconds, 2),
            }
            for reason, count in sorted(now["sheds"].items())
        },
    }


def _rates(old: Sample | None, new: Sample, seconds: float) -> dict[str, float]:
    """Return rates by class of status; what was not there before counts from 0."""
    earlier = old["requests"] if old is not None else {}
    ended = {status: _grown(n, earlier.get(status, 0)) for status, n in new["requests"].items()}
    return {
        "requests_per_second": round(sum(ended.values()) / seconds, 2),
        "failures_per_second": round(ended.get("5xx", 0) / seconds, 2),
        "aborted_per_second": round(ended.get("none", 0) / seconds, 2),
    }


def _grown(now: int, before: int) -> int:
    """Return what came since.

    A sum falls by the counts of a backend that was removed, and what is left came long before:
    how much came meanwhile is not known, and said to be nothing.
    """
    return max(now - before, 0)


def _since(now: int, before: int) -> int:
    """Return what came since; what counted an upstream that was removed begins anew."""
    return now - before if now >= before else now


def _latencies(old: Sample | None, new: Sample, bounds: list[float]) -> dict[str, float | None]:
    """Return quantiles of the durations in ms; null if no request ended."""
    earlier = old["latencies"] if old is not None else [0] * len(new["latencies"])
    counts = [_since(now, before) for now, before in zip(new["latencies"], earlier, strict=True)]
    values = {
        f"p{quantile * 100:g}_ms": milliseconds(quantile, counts, bounds) for quantile in QUANTILES
    }
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def render(view: dict[str, Any]) -> Group:
    """Return a view for a terminal."""
    connections = ", ".join(f"{n} {name}" for name, n in sorted(view["connections"].items()))
    title = Text(
        f"generation {view['generation']}; {view['in_flight']} requests in flight of "
        f"{view['limit']}; connections: {connections or 'none'}; over {view['seconds']:.1f} s"
    )
    # Only where there is one: with them, 80 columns are not enough.
    has_adaptive = any(one["adaptive"] for one in view["upstreams"])
    upstreams = _table("UPSTREAM", "REQ/S", "5XX/S", "CUT/S", "P50 MS", "P95 MS", "P99 MS",
                       "IN FLIGHT", "LIMIT",
                       *(("UNANSWERED", "ADAPTIVE LIMIT") if has_adaptive else ()))  # fmt: skip
    for one in view["upstreams"]:
        adaptive = one["adaptive"]
        upstreams.add_row(
            _name(one["name"] or "(none)"), *_shown_rates(one),
            *(_number(one[f"p{quantile * 100:g}_ms"]) for quantile in QUANTILES),
            str(one["in_flight"]), str(one["limit"]),
            *_shown_adaptive(adaptive, has_adaptive),
        )  # fmt: skip
    backends = _table(
        "BACKEND", "STATE", "BREAKER", "REQ/S", "5XX/S", "CUT/S", "IN FLIGHT", "LIMIT"
    )
    for one in view["backends"]:
        serves = one["health"] == "ok"
        state = one["state"] if serves else one["health"]
        backends.add_row(
            _name(f"{one['upstream']}/{one['id']}"),
            Text(printable(state), style="" if serves else "bold red"),
            _breaker(one["breaker"]),
            *_shown_rates(one), str(one["in_flight"]), str(one["limit"]),
        )  # fmt: skip
    sheds = _table("SHED FOR", "PER SECOND", "SINCE THE START")
    for reason, counts in view["sheds"].items():
        sheds.add_row(_name(reason), _number(counts["per_second"]), str(counts["total"]))
    return Group(title, upstreams, backends, *([sheds] if view["sheds"] else []))


def _table(*titles: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table


def _shown_adaptive(adaptive: dict[str, Any] | None, has_columns: bool) -> tuple[str, ...]:
    if not has_columns:
        return ()
    return (str(adaptive["unanswered"]), str(adaptive["limit"])) if adaptive else ("-", "-")


def _shown_rates(one: dict[str, Any]) -> list[str]:
    kinds = ("requests", "failures", "aborted")
    return [_number(one[f"{kind}_per_second"]) for kind in kinds]


def _breaker(phase: str | None) -> Text:
    style = (
        "" if phase in (None, "closed") else "bold yellow" if phase == "half_open" else "bold red"
    )
    return Text((phase or "-").replace("_", "-"), style=style)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _name(text: str) -> Text:
    return Text(printable(text))
