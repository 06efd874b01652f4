"""``spooky apply``: put a configuration file in force, live."""

from pathlib import Path

import click

from spooky.cli.control_client import asked_options, post, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.probation import probation_option, show_watched
from spooky.config.schema import DEFAULT_PATH


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@asked_options
@probation_option()
@json_option("Print what came of it as JSON.")
@socket_option
def command(
    file: Path,
    reason: str,
    expect: int | str | None,
    probation: int | None,
    as_json: bool,
    path: Path,
) -> int:
    """Put a configuration file in force, in all workers at one instant.

    FILE is /etc/spooky/config.yaml if not given; it is what `spooky reload` reads from then on,
    until a restart. If anything is wrong with it, what is in force stays in force.

    If it is on probation, the command waits for the end of it.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage, 3 if it was taken back because
    traffic fared worse.
    """
    wanted = {
        "config_path": str(file.absolute()),
        "reason": reason,
        "expected_generation": expect,
        "probation_seconds": probation,
    }
    answer = post(path, "/admin/runtime/activate", wanted, f"{file.name} to come in force")
    return show_watched(path, answer, as_json)
