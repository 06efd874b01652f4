"""``spooky check``: say all that is wrong with a configuration file."""

import sys
from pathlib import Path

import click
import msgspec

from spooky.cli.errors import EXIT_FAILED, EXIT_OK, print_problems
from spooky.cli.json_option import json_option
from spooky.config import diagnose
from spooky.config.exposure import find_exposures
from spooky.config.problems import format_path
from spooky.config.schema import DEFAULT_PATH, Configuration


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@json_option("Print the problems as a JSON list.")
@click.option("--security", is_flag=True, help="Say what the configuration leaves open instead.")
@click.pass_context
def command(ctx: click.Context, file: Path, as_json: bool, security: bool) -> None:
    """Check a configuration file and say all that is wrong with it.

    FILE is /etc/spooky/config.yaml if not given. What it needs of this machine is looked at too:
    certificates must fit their keys and be in date, addresses must be free or held by Spooky, and
    names of backends should resolve.

    With --security, a good file's settings are looked through for what they leave open: each with
    its key, what others can do because of it, and what would be safe.

    Exit codes: 0 if the file can be used (there may be warnings), 1 if not, or with --security if
    something is left open, 2 for wrong usage.
    """
    diagnosis = diagnose(file, files=True, network=True)
    if security and diagnosis.configuration is not None:
        ctx.exit(_say_what_is_open(file, diagnosis.configuration, as_json))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(diagnosis.problems)))
    elif diagnosis.problems:
        print_problems(diagnosis.problems, diagnosis.source, sys.stdout)
    if diagnosis.configuration is None:
        ctx.exit(EXIT_FAILED)
    if not as_json:
        click.echo(f"{file} is good: {_contents(diagnosis.configuration)}")


def _say_what_is_open(file: Path, configuration: Configuration, as_json: bool) -> int:
    """Print what a configuration leaves open; return the exit code."""
    findings = find_exposures(configuration)
    if as_json:
        rows = [{**each._asdict(), "path": format_path(each.path)} for each in findings]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)))
    elif not findings:
        click.echo(f"{file} leaves nothing open")
    else:
        for each in findings:
            click.echo(f"{format_path(each.path)}: {each.meaning}\n        safe: {each.safe}")
        click.echo(_count(len(findings), "setting") + " left open")
    return EXIT_FAILED if findings else EXIT_OK


def _contents(configuration: Configuration) -> str:
    upstreams = configuration.upstream.values()
    backends = sum(len(upstream.backends) for upstream in upstreams)
    return ", ".join(
        (
            _count(len(configuration.active_listeners), "listener"),
            _count(len(upstreams), "upstream"),
            _count(backends, "backend"),
        )
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
