"""``spooky reload``: put in force what the configuration file says now."""

from pathlib import Path

import click

from spooky.cli.control_client import asked_options, post, socket_option
from spooky.cli.probation import probation_option, show_watched


@click.command()
@asked_options
@probation_option
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@socket_option
def command(
    reason: str, expect: int | None, probation: int | None, as_json: bool, path: Path
) -> int:
    """Put in force what the configuration file says now.

    The file is the one that `spooky serve` was started with, or the last that `spooky apply` put in
    force. If anything is wrong with it, what is in force stays in force.

    If it is on probation, the command waits for the end of it.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage, 3 if it was taken back because
    traffic fared worse.
    """
    wanted = {
        "reason": reason,
        "expected_generation": expect,
        "probation_seconds": probation,
    }
    answer = post(path, "/admin/runtime/reload", wanted)
    return show_watched(path, answer, as_json)
