"""``spooky plan``: say what another configuration would change, and what may go wrong."""

import datetime
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from spooky.cli.errors import EXIT_OK
from spooky.config.schema import DEFAULT_PATH

EXIT_CHANGES: Final = 3
"""There are changes. Not 2, which is wrong usage for every command."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration file that is in force.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(file: Path, against: Path, as_json: bool) -> int:
    """Say what a configuration file would change, and what may go wrong.

    FILE is /etc/spooky/config.yaml if not given. It is compared with another file by what both
    mean: listeners, certificates, routes, upstreams and backends, not lines. Files that neither
    side can read are compared by name alone.

    Exit codes: 0 without changes, 3 with changes, 1 if a file cannot be used, 2 for wrong usage.
    """
    from spooky import config
    from spooky.cli.plan_view import show_plan
    from spooky.control.plan import Snapshot, encode, plan
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
    if as_json:
        click.echo(msgspec.json.format(encode(made)))
    else:
        show_plan(made, sys.stdout)
    return EXIT_CHANGES if made.changes else EXIT_OK
