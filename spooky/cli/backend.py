"""``spooky backend``: what is done to a backend at run time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from spooky.cli.change_view import show_outcome
from spooky.cli.control_client import asked_options, get, post, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.table import show_table
from spooky.config.schema import WEIGHT_MAX


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what every act on a backend has."""
    for decorate in (
        socket_option,
        json_option("Print what came of it as JSON."),
        asked_options,
    ):
        command = decorate(command)
    return command


@click.group()
def command() -> None:
    """Set a backend's state or weight at run time, without touching the file.

    It is a change like any other: in force in all workers at one instant, in the history, and taken
    back by `spooky rollback`. It outlives reloads and restarts as an override, until the file says
    the same or `spooky backend reset` ends it. `spooky plan` and `spooky status` show it.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage.
    """


def _add(name: str, text: str) -> None:
    @command.command(name, help=text)
    @click.argument("upstream")
    @click.argument("backend")
    @_options
    def act(
        upstream: str,
        backend: str,
        reason: str,
        expect: int | str | None,
        as_json: bool,
        path: Path,
    ) -> int:
        return _act(path, upstream, backend, name, reason, expect, as_json)


_add("drain", "Give a backend no new requests; those it has finish, however long they take.")
_add("undrain", "Give a drained backend requests again.")
_add("disable", "Treat a backend as if it were not listed: its connections are closed.")
_add("enable", "Give a backend requests, whether it was drained or disabled.")
_add("reset", "End what was set of a backend: it is as the file says.")


@command.command("list")
@click.argument("upstream", required=False)
@json_option("Print them as JSON.")
@socket_option
def list_backends(upstream: str | None, as_json: bool, path: Path) -> int:
    """List the backends, of UPSTREAM or of all, with their requests in flight.

    A star marks a state or weight that was set at run time.
    """
    target = "/admin/runtime/backends"
    if upstream is None:
        backends = get(path, target)
    else:
        backends = get(path, f"/admin/runtime/upstreams/{_quoted(upstream)}")["backends"]
    rows = [
        (
            one["upstream"],
            one["id"],
            one["state"] + "*" * ("state" in one["overridden"]),
            str(one["weight"]) + "*" * ("weight" in one["overridden"]),
            str(one["in_flight"]),
            one["address"],
        )
        for one in backends
    ]
    titles = ("UPSTREAM", "BACKEND", "STATE", "WEIGHT", "IN FLIGHT", "ADDRESS")
    return show_table(titles, rows, backends if as_json else None)


@command.command()
@click.argument("upstream")
@click.argument("backend")
@click.argument("weight", type=click.IntRange(1, WEIGHT_MAX))
@_options
def weight(
    upstream: str,
    backend: str,
    weight: int,
    reason: str,
    expect: int | str | None,
    as_json: bool,
    path: Path,
) -> int:
    """Give a backend another share of the requests."""
    return _act(path, upstream, backend, "weight", reason, expect, as_json, weight=weight)


def _act(
    path: Path,
    upstream: str,
    backend: str,
    name: str,
    reason: str,
    expect: int | str | None,
    as_json: bool,
    **more: int,
) -> int:
    target = f"/admin/runtime/upstreams/{_quoted(upstream)}/backends/{_quoted(backend)}/{name}"
    wanted = {"reason": reason, "expected_generation": expect, **more}
    awaited = f"{name} of backend {backend} of {upstream} to come in force"
    return show_outcome(post(path, target, wanted, awaited), as_json)


def _quoted(name: str) -> str:
    return quote(name, safe="")
