"""A list of objects, as people or programs read it."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from spooky.cli.errors import EXIT_OK, printable


def show_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], as_json: Any | None = None
) -> int:
    """Print rows under titles, or JSON; return the exit code.

    Arguments:
        titles: Of the columns.
        rows: As many texts each.
        as_json: What to print as JSON instead; ``None`` for the rows.
    """
    if as_json is not None:
        click.echo(msgspec.json.format(msgspec.json.encode(as_json)))
        return EXIT_OK
    lines = [list(titles), *([printable(text) for text in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return EXIT_OK
