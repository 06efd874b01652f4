"""``spooky diff``: how the texts of two generations differ."""

import difflib
from pathlib import Path
from typing import Any

import click
import msgspec

from spooky.cli.control_client import get, socket_option
from spooky.cli.errors import EXIT_OK, printable
from spooky.cli.json_option import json_option


@click.command()
@click.argument("generation", type=click.IntRange(min=1))
@click.argument("other", type=click.IntRange(min=1), required=False)
@json_option("Print it as JSON.")
@socket_option
def command(generation: int, other: int | None, as_json: bool, path: Path) -> int:
    """Show how the configuration of GENERATION differs from that of OTHER, line by line.

    Without OTHER it is the one in force. What was set at run time follows the text.

    What a difference means for a running Spooky is what `spooky plan` says.
    """
    if other is None:
        other = get(path, "/admin/runtime")["generation"]["number"]
    old, new = (get(path, f"/admin/runtime/history/{number}") for number in (generation, other))
    lines = difflib.unified_diff(_lines(old), _lines(new), _name(old), _name(new), lineterm="")
    if as_json:
        answer = {"generation": generation, "other": other, "lines": list(lines)}
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
        return EXIT_OK
    for line in lines:
        click.echo(printable(line))
    return EXIT_OK


def _lines(record: dict[str, Any]) -> list[str]:
    """Return the lines of the text, and one for each override."""
    text: str = record["text"]
    overrides = [
        f"# override: {one['upstream']} {one['backend']} {key}: {one[key]}"
        for one in record["overrides"]
        for key in ("state", "weight")
        if one[key] is not None
    ]
    return [*text.splitlines(), *overrides]


def _name(record: dict[str, Any]) -> str:
    return f"generation {record['number']} ({record['path']})"
