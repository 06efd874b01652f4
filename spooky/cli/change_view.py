"""What came of a change, and the generations there were, as people read them."""

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from spooky.cli.errors import EXIT_OK, print_answered, printable
from spooky.cli.plan_view import show_plan
from spooky.control.plan import Plan


def show_outcome(answer: dict[str, Any], as_json: bool) -> int:
    """Print what came of a change; return the exit code."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
        return EXIT_OK
    _show_warnings(answer)
    number = answer["generation"]["number"]
    if not answer["changed"]:
        click.echo(f"nothing changed: generation {number} stays in force")
        return EXIT_OK
    show_plan(msgspec.convert(answer["plan"], Plan), sys.stdout)
    click.echo(f"generation {number} is in force, after {answer['milliseconds']} ms")
    return EXIT_OK


def _show_warnings(answer: dict[str, Any]) -> None:
    """Print what the file that was put in force warns of."""
    # The program that answers may be of a version before this one.
    warnings = answer.get("warnings", [])
    if warnings:
        print_answered(warnings, Path(warnings[0]["file"]))


def generation_line(entry: dict[str, Any], active: int) -> str:
    """Return one generation as a line."""
    mark = "*" if entry["number"] == active else " "
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
    what = entry["source"]
    if entry["source"] == "rollback":
        what = f"{what} to {entry['origin']}"
    if entry["unproven"]:
        what = f"{what}, unproven"
    reason = f": {entry['reason']}" if entry["reason"] else ""
    line = f"{mark} {entry['number']:>5}  {when}  {what:<16} {entry['path']}"
    return printable(f"{line} ({entry['requested_by']}{reason})")
