"""``spooky rollback``: put an earlier generation in force again."""

from pathlib import Path

import click

from spooky.cli.change_view import show_outcome
from spooky.cli.control_client import asked_options, post, socket_option
from spooky.cli.json_option import json_option


@click.command()
@click.argument("generation", type=click.IntRange(min=1), required=False)
@asked_options
@json_option("Print what came of it as JSON.")
@socket_option
def command(
    generation: int | None, reason: str, expect: int | str | None, as_json: bool, path: Path
) -> int:
    """Put an earlier generation in force again, as a new one.

    Without GENERATION it is the one before that whose configuration is in force, so that to repeat
    the command goes further back. Certificates and other files are read as they are now. `spooky
    plan --generation` shows what it would change.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage.
    """
    wanted = {"target_generation": generation, "reason": reason, "expected_generation": expect}
    awaited = f"generation {generation or 'before'} to come in force again"
    return show_outcome(post(path, "/admin/runtime/rollback", wanted, awaited), as_json)
