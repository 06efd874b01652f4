"""``spooky status``: what a running Spooky serves, and with what."""

import datetime
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from spooky.cli.control_client import get, socket_option
from spooky.cli.errors import EXIT_FAILED, EXIT_OK, printable
from spooky.cli.json_option import json_option

_STATES: Final = {
    "starting": "starting",
    "serving": "serving",
    "no_worker": "not serving: every worker is dead or hangs",
    "no_backend": "serving 503: every backend is drained or disabled, fails its checks, is "
    "ejected, or has an open breaker",
    "draining": "draining",
}


@click.command()
@json_option("Print it as JSON.")
@socket_option
def command(as_json: bool, path: Path) -> int:
    """Show the generation in force, listeners, workers, certificates and overrides.

    Exit codes: 0 if it serves, 1 if it does not (yet, or any more) or cannot be reached.
    """
    answer = get(path, "/admin/runtime")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
        return EXIT_OK if answer["ready"] else EXIT_FAILED
    generation = answer["generation"]
    uptime = datetime.timedelta(seconds=int(time.time() - answer["started"]))
    state = _STATES[answer["state"]]
    lines = [
        f"spooky {answer['version']} is {state}, process {answer['pid']}, up {uptime}",
        f"generation  {generation['number']} ({generation['source']} of {generation['path']})",
        *_probation(answer["probation"]),
        *(f"listener    {one['address']} port {one['port']}" for one in answer["listeners"]),
        *(
            f"worker      {one['slot']}: process {one['pid']}{', leaving' * one['leaving']}"
            for one in answer["workers"]
        ),
        *(
            f"certificate {', '.join(one['names'])} on {one['listener']}, until {one['not_after']}"
            for one in answer["certificates"]
        ),
        *(
            f"override    {one['object']['parent']} {one['object']['name']}: {one['key']} is "
            f"{one['value']}; the file says {one['file']}"
            for one in answer["overrides"]
        ),
    ]
    for line in lines:
        click.echo(printable(line))
    return EXIT_OK if answer["ready"] else EXIT_FAILED


def _probation(status: dict[str, Any] | None) -> list[str]:
    """Return what became of the last generation on probation, as a line."""
    if status is None:
        return []
    line = f"probation   of generation {status['generation']}: "
    if status["verdict"] == "watching":
        return [f"{line}{status['seconds_left']:.0f} s of {status['seconds']:.0f} s left"]
    why = f": {status['reason']}" if status["reason"] else ""
    return [f"{line}{status['verdict'].replace('_', ' ')}{why}"]
