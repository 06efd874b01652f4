"""``spooky workers``: the worker processes."""

from pathlib import Path
from typing import Any

import click

from spooky.cli.control_client import get, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.table import show_table


@click.command()
@json_option("Print them as JSON.")
@socket_option
def command(as_json: bool, path: Path) -> int:
    """List the worker processes, with the time since each last said that it turns."""
    workers = get(path, "/admin/runtime/workers")
    rows = [(str(one["slot"]), str(one["pid"]), _state(one), _age(one)) for one in workers]
    return show_table(("SLOT", "PROCESS", "STATE", "HEARTBEAT"), rows, workers if as_json else None)


def _state(worker: dict[str, Any]) -> str:
    if worker["leaving"]:
        return "leaving"
    return "starting" if worker["heartbeat_age_seconds"] is None else "serving"


def _age(worker: dict[str, Any]) -> str:
    age = worker["heartbeat_age_seconds"]
    return "" if age is None else f"{age:.1f} s ago"
