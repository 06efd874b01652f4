"""``spooky plan``: say what another configuration would change, and what may go wrong."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spooky.cli.control_client import socket_option
from spooky.cli.json_option import json_option
from spooky.cli.live_plan import plan_file, plan_rollback, print_plan
from spooky.config.schema import DEFAULT_PATH

if TYPE_CHECKING:
    from spooky.control.plan import Plan


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Compare with this file instead of with what runs.",
)
@click.option(
    "--generation",
    type=click.IntRange(min=1),
    help="Say what `spooky rollback` to this generation would change, instead of a file; "
    "`spooky rollback --dry-run` does without one.",
)
@json_option("Print the plan as JSON.")
@socket_option
def command(
    file: Path | None, against: Path | None, generation: int | None, as_json: bool, path: Path
) -> int:
    """Say what a configuration file, or a rollback, would change, and what may go wrong.

    FILE is /etc/spooky/config.yaml if not given. It is compared with what is in force by what both
    mean: listeners, certificates, routes, upstreams and backends, not lines. With --against no
    Spooky needs to run; files that neither side can read are compared by name alone.

    Exit codes: 0 without changes, 3 with changes, 1 if a file cannot be used, 2 for wrong usage.
    """
    if generation is not None:
        if file is not None or against is not None:
            raise click.UsageError(
                "--generation is in place of a file, and is compared with what runs"
            )
        made = plan_rollback(path, generation)
    elif against is not None:
        made = _plan_against(against, file or Path(DEFAULT_PATH))
    else:
        made = plan_file(path, file or Path(DEFAULT_PATH))
    return print_plan(made, as_json)


def _plan_against(against: Path, file: Path) -> "Plan":
    """Return the plan from one file to another."""
    from spooky import config
    from spooky.control.plan import Snapshot, plan
    from spooky.generation.materials import MaterialError, read_available_materials

    unread: dict[str, MaterialError] = {}

    def snapshot(path: Path) -> Snapshot:
        configuration = config.load(path)
        materials, errors = read_available_materials(configuration)
        unread.update((str(error), error) for error in errors)
        return Snapshot(configuration, materials)

    made = plan(snapshot(against), snapshot(file), datetime.datetime.now(datetime.UTC))
    for text in unread:
        click.echo(f"compared by name alone: {text}", err=True)
    return made
