"""Waiting for the end of a change's probation."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from spooky.cli.change_view import show_outcome
from spooky.cli.control_client import get
from spooky.cli.errors import EXIT_OK, EXIT_REGRESSION, CommandError
from spooky.cli.json_option import is_for_programs
from spooky.cli.progress import StatusLine
from spooky.config.control import PROBATION_MAX, PROBATION_MIN

POLL_SECONDS: Final = 1.0
"""How often is asked how it goes; judged is as often."""

_UNITS: Final = {"": 1, "s": 1, "m": 60}


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of ``30s``, ``2m`` or ``30``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([sm]?)", value)
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if seconds == 0 or PROBATION_MIN <= seconds <= PROBATION_MAX:
        return seconds
    raise click.BadParameter(
        f"{value!r} is not 0, nor between {PROBATION_MIN}s and {PROBATION_MAX // 60}m, such as 30s"
    )


def probation_option(
    default: str = "0 for not. By default as control.probation says.",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that says how long a command's change is watched.

    Arguments:
        default: The end of its help: what 0 means, and nothing.
    """
    return click.option(
        "--probation",
        callback=_seconds,
        metavar="DURATION",
        help="Watch traffic for so long, such as 30s, and take the change back if it fares worse; "
        + default,
    )


def show_watched(path: Path, answer: dict[str, Any], as_json: bool) -> int:
    """Print what came of a change, and of its probation; return the exit code.

    Arguments:
        path: The control socket.
        answer: What came of the change.

    Raises:
        CommandError: It was taken back, or another change ended the probation.
    """
    if answer["probation"] is None:
        return show_outcome(answer, as_json)
    if not as_json:
        show_outcome(answer, as_json)
    number = answer["generation"]["number"]
    status = answer["probation"] = _wait(path, number, answer["probation"])
    match status["verdict"]:
        case "passed":
            if as_json:
                return show_outcome(answer, as_json)
            click.echo(f"generation {number} has passed its probation")
            return EXIT_OK
        case "rolled_back":
            text, remedy = "was taken back", "see `spooky history`"
            if answer["generation"]["source"] != "rollback":
                remedy = f"{remedy}; the file is still the bad one"
        case "not_rolled_back":
            text, remedy = "regressed and stays", "`spooky rollback` goes to another generation"
        case _:
            raise CommandError(
                f"the probation of generation {number} ended early: {status['reason']}",
                "see `spooky status`",
                document=answer,
            )
    text = f"generation {number} {text}: {status['reason']}"
    raise CommandError(text, remedy, EXIT_REGRESSION, document=answer)


def _wait(path: Path, number: int, status: dict[str, Any]) -> dict[str, Any]:
    """Return what became of a generation on probation, when it is over."""
    line = StatusLine(sys.stderr if not is_for_programs() else None)
    while status["verdict"] in ("watching", "going_back"):
        line.show(f"generation {number} is on probation, {status['seconds_left']:.0f} s left")
        time.sleep(POLL_SECONDS)
        now = get(path, "/admin/runtime")["probation"]
        if now is None or now["generation"] != number:
            now = {**status, "verdict": "ended", "reason": "another generation is on probation"}
        status = now
    line.clear()
    return status
