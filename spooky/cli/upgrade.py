"""``spooky upgrade``: have another program take over what a running one serves."""

from pathlib import Path

import click
import msgspec

from spooky.cli.control_client import UPGRADE, post, socket_option
from spooky.cli.errors import EXIT_OK, printable
from spooky.cli.json_option import json_option


@click.command()
@click.option(
    "--program",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The `spooky` executable of the new installation; if not given, what the running one was "
    "started with, as it is now on disk.",
)
@json_option("Print what came of it as JSON.")
@socket_option
def command(program: Path | None, as_json: bool, path: Path) -> int:
    """Have another program take over what a running one serves, without losing a request.

    The new program takes sockets, keys, counters and history over, and serves new connections when
    its workers are ready. The old one finishes what it has for up to
    performance.shutdown_drain_timeout_ms, and ends. If anything goes wrong before that, the old one
    serves on as if nothing had been.

    Exit codes: 0 if the new program serves, 1 if the old one still does, 2 for wrong usage.
    """
    wanted = {"program": str(program.absolute()) if program is not None else None}
    answer = post(path, UPGRADE, wanted, "the new program to take over")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
    else:
        version, pid = printable(answer["version"]), answer["pid"]
        click.echo(f"spooky {version} serves, as process {pid}, after {answer['milliseconds']} ms")
    return EXIT_OK
