"""``spooky bench micro``: what the kernels cost, compiled against their twins."""

import sys
from pathlib import Path

import click

from spooky.cli.errors import CommandError, check_writable


@click.command()
@click.argument("words", nargs=-1)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=0.2,
    show_default=True,
    metavar="SECONDS",
    help="For each kernel's operation and side.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Save the costs.")
def micro(words: tuple[str, ...], seconds: float, json_path: Path | None) -> None:
    """Measure one call of each kernel, compiled and as its twin in Python does it.

    WORDS choose operations by their names, such as `route` or `udp`; without any, all are measured.
    """
    import msgspec

    from spooky.bench import micro
    from spooky.bench.programs import BenchError
    from spooky.cli.progress import StatusLine

    if json_path is not None:
        check_writable(json_path)
    status = StatusLine(sys.stderr)
    try:
        table = micro.run(
            micro.MicroPlan(seconds, words), lambda side, name: status.show(f"{side}  {name}")
        )
    except BenchError as error:
        raise CommandError(error.message, error.remedy) from error
    finally:
        status.clear()
    click.echo("\n".join(micro.lines(table)))
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n")
