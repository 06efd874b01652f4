"""``spooky why``: the life of a request."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click
import msgspec

from spooky.cli.control_client import get, socket_option
from spooky.cli.errors import EXIT_OK, printable
from spooky.cli.json_option import json_option
from spooky.observe.decisions import parse_id


@click.command()
@click.argument("request_id")
@json_option("Print it as JSON.")
@socket_option
def command(request_id: str, as_json: bool, path: Path) -> int:
    """Tell what became of the request REQUEST_ID, and why.

    The id is in the access log. What is told is kept in memory by each worker, as much of it as
    `observability.decisions.bytes` says, also after a worker died.

    Exit codes: 0 if it is known, 1 if it is not (any more), 2 for what is no request id.
    """
    try:
        parse_id(request_id)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="REQUEST_ID") from error
    life = get(path, f"/admin/runtime/requests/{quote(request_id, safe='')}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(life)))
        return EXIT_OK
    for line in _lines(life):
        click.echo(printable(line))
    return EXIT_OK


def _lines(life: dict[str, Any]) -> list[str]:
    cut = "..." if life["path_cut"] else ""
    status = life["status"] or "no status"
    return [
        f"request    {life['method']} {life['authority']}{life['path']}{cut} over "
        f"{life['protocol']}, to worker {life['worker']} at {life['started']}",
        f"outcome    {status}, {life['reason']} ({life['stage']}): {life['text']}",
        f"took       {life['duration_ms']} ms, {life['bytes_received']} bytes of body received, "
        f"{life['bytes_sent']} sent",
        f"generation {life['generation']}",
        *_route(life["route"]),
        *_backend(life["backend"], life["upstream_protocol"]),
        *(
            f"admission  {one['stage']} let it in: {one['value']} of {one['limit']}"
            for one in life["admission"]
        ),
        *(_try(one) for one in life["tries"]),
        *(f"{one['at_ms']:>10.3f} ms  {one['text']}" for one in life["events"]),
        *["           and more, which found no room"] * life["events_cut"],
    ]


def _route(route: dict[str, Any] | None) -> list[str]:
    if route is None:
        return ["route      none was looked for"]
    chosen = f"{route['route'] or '?'} -> {route['upstream']}" if route["upstream"] else "none"
    others = [f"           also matched: {one}" for one in route["candidates"] if one != chosen]
    return [f"route      {chosen}: {route['text']}", *others]


def _backend(backend: dict[str, Any] | None, protocol: str | None) -> list[str]:
    if backend is None:
        return ["backend    none was chosen"]
    balancing = f" ({backend['balancing']})" if backend["balancing"] else ""
    over = f" over {protocol}" if protocol else ""
    whose = "" if backend["balancing"] == "least-request" else " by the worker"
    return [
        f"backend    {backend['id']}{over}{balancing}: {backend['text']}",
        *([f"           scores are {backend['scores']}"] if backend["scores"] else []),
        *(f"           {_candidate(one, whose)}" for one in backend["candidates"]),
        *([f"           and {backend['more']} more"] if backend["more"] else []),
    ]


def _try(one: dict[str, Any]) -> str:
    status = f"{one['status']}, " if one["status"] is not None else ""
    beside = ", beside the one before" if one["hedge"] else ""
    return (
        f"try {one['number']:<6} at {one['backend']} from {one['began_ms']:.3f} to "
        f"{one['ended_ms']:.3f} ms{beside}: {status}{one['reason']}: {one['text']}"
    )


_NUMBERS: Final = {
    "score": "score {:g}",
    "in_flight": "{} in flight{whose}",
    "weight": "weight {:g}",
    "latency_ms": "latency {:g} ms",
}


def _candidate(one: dict[str, Any], whose: str) -> str:
    told = [
        text.format(one[key], whose=whose) for key, text in _NUMBERS.items() if one[key] is not None
    ]
    told += [one["text"]] if one["text"] else []
    state = one["state"].replace("_", " ")
    return f"{one['id']}: {state}{'; ' * bool(told)}{', '.join(told)}"
