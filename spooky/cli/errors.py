"""How commands fail: one place that prints errors for people and decides exit codes."""

import contextlib
import os
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import click
import msgspec

from spooky.cli.broken_build import unloadable_kernel
from spooky.config.problems import ConfigurationError, Problem, Severity

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REGRESSION: Final = 3
EXIT_NO_ANSWER: Final = 4
"""No answer came in time: what was asked may still be done."""
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

REBUILD: Final = (
    "`make build` in a checkout, else install Spooky again; SPOOKY_PURE=1 runs without the compiled"
)


class CommandError(Exception):
    """A command failed in a way its user can mend.

    Attributes:
        message: What went wrong.
        remedy: What to do about it; may be empty.
        exit_code: Exit code of the process.
        document: What programs are told, as JSON values; ``None`` for what people are.
    """

    def __init__(
        self,
        message: str,
        remedy: str = "",
        exit_code: int = EXIT_FAILED,
        document: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code
        self.document = document


class AnsweredError(ConfigurationError):
    """A running Spooky found errors in a configuration.

    Attributes:
        document: What it answered.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        problems = msgspec.convert(document["problems"], list[Problem])
        super().__init__(problems, document.get("text", ""))
        self.document = document


def no_directory(path: Path) -> CommandError:
    """Return the error that a file's directory is not there."""
    return CommandError(
        f"there is no directory {path.parent}", f"mkdir -p {shlex.quote(str(path.parent))}"
    )


def check_writable(path: Path) -> None:
    """See that a file can be written, before the long work that it is for.

    Raises:
        CommandError: Its directory is not there, or it cannot.
    """
    # Those of `os.path` say no where a directory may not even be looked into.
    if not os.path.isdir(path.parent):
        raise no_directory(path)
    if os.path.isdir(path):
        raise CommandError(f"{path} is a directory", "name a file in it")
    exists = os.path.exists(path)
    if not os.access(path if exists else path.parent, os.W_OK if exists else os.W_OK | os.X_OK):
        raise CommandError(f"{path} may not be written", "name another place, or let you write it")


def print_answered(problems: Any, file: Path, text: str | None = None) -> None:
    """Print to stderr what a running Spooky says of a configuration.

    Arguments:
        problems: As the control API answers them.
        file: Where they are; its lines are shown if it can be read.
        text: What it said, if that is not what it says now.
    """
    source = text or ""
    if text is None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            source = file.read_text()
    print_problems(msgspec.convert(problems, list[Problem]), source, sys.stderr)


def report(error: Exception, *, as_json: bool = False) -> int | None:
    """Print an error to stderr.

    Arguments:
        as_json: Print it to stdout too, for programs: a line with what a running Spooky answered,
            or else ``code``, ``detail`` and ``remedy``.

    Returns:
        The exit code; ``None``, and nothing printed, for an error that is a defect of Spooky.
    """
    if as_json and (document := _document(error)) is not None:
        with contextlib.suppress(BrokenPipeError):
            click.echo(msgspec.json.encode(document).decode())
    match error:
        case ConfigurationError():
            print_problems(error.problems, error.source, sys.stderr)
            return EXIT_FAILED
        case CommandError():
            _print_error(error.message, error.remedy)
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return EXIT_USAGE
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "spooky"
            _print_error(error.format_message(), f"see `{command} --help`")
            return EXIT_USAGE
        case click.ClickException():
            _print_error(error.format_message(), "")
            return error.exit_code
        case click.Abort():
            click.echo("interrupted", err=True)
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            # Whoever read stdout has gone (`spooky schema | head`); keep the interpreter from
            # failing again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        case OSError():
            _print_error(_said_by_system(error), "")
            return EXIT_FAILED
    kernel = unloadable_kernel(error)
    if kernel is not None:
        _print_error(f"the compiled {kernel} cannot be loaded: {error}", REBUILD)
        return EXIT_FAILED
    return None


def _document(error: Exception) -> dict[str, Any] | None:
    """Return what programs are told of an error; ``None`` if that is nothing for them."""
    match error:
        case AnsweredError():
            return error.document
        case ConfigurationError():
            text = "the configuration has errors"
            return {"code": "invalid", "detail": text, "problems": error.problems}
        case CommandError():
            if error.document is not None:
                return error.document
            code = "no_answer" if error.exit_code == EXIT_NO_ANSWER else "failed"
            return {"code": code, "detail": error.message, "remedy": error.remedy}
        case BrokenPipeError():
            return None
        case OSError():
            return {"code": "failed", "detail": _said_by_system(error)}
    return None


def _said_by_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def print_problems(problems: Sequence[Problem], source: str, stream: TextIO) -> None:
    """Print problems with the lines they are on and a caret under the place.

    Arguments:
        source: The text of the file.
        stream: Where to; coloured only if it is a terminal.
    """
    lines = source.splitlines()
    colour = shows_colour(stream)
    for problem in problems:
        click.echo(_format_problem(problem, lines), file=stream, color=colour)
    click.echo(_summary(problems), file=stream, color=colour)


def _format_problem(problem: Problem, lines: Sequence[str]) -> str:
    severity_colour = "red" if problem.severity is Severity.ERROR else "yellow"
    place = problem.file
    if problem.line is not None:
        place = f"{place}:{problem.line}:{problem.column}"
    text = [
        f"{click.style(place, bold=True)}: {click.style(problem.severity, fg=severity_colour)}: "
        + (f"{problem.path}: " if problem.path else "")
        + problem.message
    ]
    if problem.line is not None and problem.column is not None and problem.line <= len(lines):
        line = printable(lines[problem.line - 1])
        gutter = f"{problem.line:>5} | "
        indent = " " * _width(printable(lines[problem.line - 1][: problem.column - 1]))
        caret = click.style("^", fg=severity_colour)
        text += [f"{gutter}{line}", f"{' ' * (len(gutter) - 2)}| {indent}{caret}"]
    if problem.remedy:
        text.append(f"        {click.style('remedy:', bold=True)} {problem.remedy}")
    return "\n".join(text)


def _summary(problems: Sequence[Problem]) -> str:
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = len(problems) - errors
    counts = []
    if errors:
        counts.append(f"{errors} error{'s' if errors > 1 else ''}")
    if warnings:
        counts.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    return ", ".join(counts)


def printable(text: str) -> str:
    """Return a text with nothing in it that a terminal obeys."""
    return "".join(c if c.isprintable() else " " for c in text)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def shows_colour(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose user wants colour (https://no-color.org).

    An empty ``NO_COLOR`` is none, as it is said there.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _print_error(message: str, remedy: str) -> None:
    colour = shows_colour(sys.stderr)
    click.echo(f"{click.style('error:', fg='red')} {message}", err=True, color=colour)
    if remedy:
        click.echo(f"  {click.style('remedy:', bold=True)} {remedy}", err=True, color=colour)
