"""``spooky reload``: put in force what the configuration file says now."""

from pathlib import Path

import click

from spooky.cli.change_view import show_outcome
from spooky.cli.control_client import asked_options, post, socket_option


@click.command()
@asked_options
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
@socket_option
def command(reason: str, expect: int | None, as_json: bool, path: Path) -> int:
    """Put in force what the configuration file says now.

    The file is the one that `spooky serve` was started with, or the last that `spooky apply` put in
    force. If anything is wrong with it, what is in force stays in force.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage.
    """
    answer = post(path, "/admin/runtime/reload", {"reason": reason, "expected_generation": expect})
    return show_outcome(answer, as_json)
