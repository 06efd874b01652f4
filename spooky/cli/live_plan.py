"""Plans that a running Spooky makes: of a file, or of going back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from spooky.cli.control_client import get, post
from spooky.cli.errors import EXIT_OK, CommandError, print_answered

if TYPE_CHECKING:
    from spooky.control.plan import Plan

EXIT_CHANGES: Final = 3
"""There are changes. Not 2, which is wrong usage for every command."""

_AWAITED: Final = "the plan"


def plan_file(path: Path, file: Path) -> "Plan":
    """Return the plan of a file, and print what is to be warned of.

    Arguments:
        path: The control socket.
        file: The file.

    Raises:
        CommandError: Spooky cannot be asked, or refuses, or what the file asks for cannot be.
        ConfigurationError: The file has errors.
    """
    plan, problems = _judged(path, {"config_path": str(file.absolute())})
    if problems:
        print_answered(problems, file)
    return plan


def plan_rollback(path: Path, generation: int | None) -> "Plan":
    """Return the plan of going back, and print what is to be warned of.

    Arguments:
        path: The control socket.
        generation: Where to; ``None`` for where `spooky rollback` goes without a number.

    Raises:
        CommandError: Spooky cannot be asked, or refuses, or it cannot go back there.
        ConfigurationError: What was in force has errors by now.
    """
    plan, problems = _judged(path, {"rollback": True, "target_generation": generation})
    if problems:
        # What the file says now is something else.
        kept = get(path, f"/admin/runtime/history/{plan.back_to}")
        print_answered(problems, Path(kept["path"]), kept["text"])
    return plan


def print_plan(plan: "Plan", as_json: bool) -> int:
    """Print a plan; return the exit code."""
    from spooky.cli.plan_view import show_plan
    from spooky.control.plan import encode

    if as_json:
        click.echo(msgspec.json.format(encode(plan)))
    else:
        show_plan(plan, sys.stdout)
    return EXIT_CHANGES if plan.changes else EXIT_OK


def _judged(path: Path, body: dict[str, Any]) -> tuple["Plan", list[Any]]:
    """Return a plan, and what is not as it should be in what it is of."""
    from spooky.control.plan import Plan

    answer = post(path, "/admin/runtime/validate", body, _AWAITED)
    if not answer["valid"]:
        # What is wrong with the text itself is an error here.
        post(path, "/admin/runtime/preview", body, _AWAITED)
        file = body.get("config_path")
        print_answered(answer["problems"], Path(file or ""), None if file else "")
        text = f"this machine does not have what {'the file' if file else 'it'} asks for"
        raise CommandError(text, document=answer)
    return msgspec.convert(answer["plan"], Plan), answer["problems"]
