"""``spooky serve``: run the proxy that a configuration file describes."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spooky.cli.errors import EXIT_FAILED, EXIT_OK, CommandError, print_problems
from spooky.cli.serving import serve_until_stopped, take_over
from spooky.config.schema import DEFAULT_PATH

if TYPE_CHECKING:
    from spooky.control.candidate import Candidate
    from spooky.control.first_generation import Resumed
    from spooky.control.history import History


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="The configuration file.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="If the file is broken, start with the last generation that was in force.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Where --resume finds the history, if the broken file named a place (control.state_dir); "
    "even if it is that of another file.",
)
@click.option("--take-over", "descriptor", type=int, hidden=True)
@click.argument("misplaced", metavar="", required=False)
def command(
    path: Path,
    resume: bool,
    state_dir: Path | None,
    descriptor: int | None,
    misplaced: str | None,
) -> int:
    """Run the proxy that a configuration file describes.

    SIGTERM and SIGINT let requests in flight finish for up to
    performance.shutdown_drain_timeout_ms; a second signal stops at once. SIGHUP puts in force what
    the file says now, as `spooky reload` does. SIGUSR1 reopens log files after they were rotated.

    Exit codes: 0 after an orderly end, 1 if requests were cut or it could not start, 2 for wrong
    usage.
    """
    if misplaced is not None:
        raise click.UsageError(f"the file goes with --config: --config {shlex.quote(misplaced)}")
    if descriptor is not None:
        # For `spooky upgrade`: what to serve comes from the program that serves it now.
        return EXIT_OK if take_over(descriptor, _announce) else EXIT_FAILED

    from spooky.config import ConfigurationError
    from spooky.control.candidate import read_candidate
    from spooky.generation.materials import MaterialError

    def make() -> "tuple[Candidate, Resumed | None]":
        try:
            return read_candidate(path), None
        except ConfigurationError as error:
            if not resume:
                raise
            print_problems(error.problems, error.source, sys.stderr)
        except MaterialError as error:
            if not resume:
                raise
            click.echo(f"{path} cannot be used: {error}", err=True)
        return _last_good(path, state_dir)

    return EXIT_OK if serve_until_stopped(make, _announce) else EXIT_FAILED


def _last_good(path: Path, state_dir: Path | None) -> "tuple[Candidate, Resumed]":
    """Return the last generation that was in force, and which that is."""
    from spooky.config.control import HISTORY_MAX, Control
    from spooky.control.candidate import restore_candidate
    from spooky.control.first_generation import Resumed
    from spooky.control.history import History
    from spooky.control.places import state_directory

    # All that are kept: the limit is in the file that is broken.
    given = str(state_dir) if state_dir is not None else None
    control = Control(state_dir=given, history=HISTORY_MAX)
    directory = state_directory(control)
    history = History(directory, control.history)
    history.close()
    file = str(path.absolute())
    found, last = history.newest_proven_of(file), history.newest
    if found is None and state_dir is not None:
        # Whoever names the history wants this one, even if it is of a file that was moved.
        found = history.newest_proven
    if found is None:
        raise _nothing_to_resume(path, directory, history, file)
    if last is not None and last.unproven and last.number > found.number:
        click.echo(f"generation {last.number} was on probation, and is not used", err=True)
    click.echo(
        f"{path} is broken: starting with generation {found.number} of {found.path}, "
        f"from the history in {directory}; a reload reads {path}",
        err=True,
    )
    return restore_candidate(found.text, found.path), Resumed(found.number, file)


def _nothing_to_resume(path: Path, directory: Path, history: "History", file: str) -> CommandError:
    """Return why no generation can be started with."""
    other = history.newest_proven
    if other is None or any(record.is_of(file) for record in history):
        return CommandError(
            f"{path} is broken, and the history in {directory} has nothing to start with",
            "mend the file, or say with --state-dir where the history is",
        )
    of = other.service or other.path
    return CommandError(
        f"{path} is broken, and the history in {directory} is that of {of}",
        "mend the file, or say with --state-dir where its own history is; "
        f"--state-dir {shlex.quote(str(directory))} starts with generation {other.number} of "
        f"{other.path} all the same",
    )


def _announce(addresses: list[tuple[str, int]]) -> None:
    for host, port in addresses:
        click.echo(f"serving HTTP/3, HTTP/2 and HTTP/1.1 on {host} port {port}", err=True)
