"""``--json``: what a command prints is for programs, and so is what went wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click


@dataclass(slots=True)
class Invocation:
    """What is known of the command line that runs.

    Attributes:
        as_json: Whether it is for programs.
    """

    as_json: bool = False


def json_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what gives a command ``--json``, as ``as_json``; ``text`` says what is printed."""
    return click.option("--json", "as_json", is_flag=True, callback=_note, help=text)


def is_for_programs() -> bool:
    """Return whether the command that runs was given ``--json``."""
    context = click.get_current_context(silent=True)
    invocation = context.find_object(Invocation) if context is not None else None
    return invocation is not None and invocation.as_json


def _note(context: click.Context, _: click.Parameter, value: bool) -> bool:
    # Whoever reports what a command raises has its context no more.
    if (invocation := context.find_object(Invocation)) is not None:
        invocation.as_json = value
    return value
