"""``spooky history``: the generations that were in force."""

from pathlib import Path

import click
import msgspec

from spooky.cli.change_view import generation_line
from spooky.cli.control_client import get, socket_option
from spooky.cli.errors import EXIT_OK
from spooky.cli.json_option import json_option


@click.command()
@click.argument("generation", type=click.IntRange(min=1), required=False)
@json_option("Print it as JSON.")
@socket_option
def command(generation: int | None, as_json: bool, path: Path) -> int:
    """List the generations that were in force, the newest first; the star marks the active one.

    With GENERATION, print the configuration of that one as it was written.
    """
    target = "/admin/runtime/history"
    answer = get(path, target if generation is None else f"{target}/{generation}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
    elif generation is not None:
        click.echo(answer["text"], nl=False)
    else:
        for entry in answer["entries"]:
            click.echo(generation_line(entry, answer["active_generation"]))
    return EXIT_OK
