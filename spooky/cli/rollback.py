"""``spooky rollback``: put an earlier generation in force again."""

from pathlib import Path

import click

from spooky.cli.control_client import asked_options, post, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.live_plan import plan_rollback, print_plan
from spooky.cli.probation import probation_option, show_watched


@click.command()
@click.argument("generation", type=click.IntRange(min=1), required=False)
@click.option("--dry-run", is_flag=True, help="Say where it would go, and what would change.")
@asked_options
@probation_option(
    "0 for not. By default one that never passed its probation has that again, and others none."
)
@json_option("Print what came of it, or would, as JSON.")
@socket_option
def command(
    generation: int | None,
    dry_run: bool,
    reason: str,
    expect: int | str | None,
    probation: int | None,
    as_json: bool,
    path: Path,
) -> int:
    """Put an earlier generation in force again, as a new one.

    Without GENERATION it is the one before that whose configuration is in force, so that to repeat
    the command goes further back. Certificates and other files are read as they are now.

    If it is on probation, the command waits for the end of it.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage, 3 if it was taken back because
    traffic fared worse; with --dry-run 0 if nothing would change, 3 if something would.
    """
    if dry_run:
        if reason or expect is not None or probation is not None:
            raise click.UsageError("--reason, --expect and --probation are for what is done")
        return print_plan(plan_rollback(path, generation), as_json)
    wanted = {
        "target_generation": generation,
        "reason": reason,
        "expected_generation": expect,
        "probation_seconds": probation,
    }
    awaited = f"generation {generation or 'before'} to come in force again"
    return show_watched(path, post(path, "/admin/runtime/rollback", wanted, awaited), as_json)
