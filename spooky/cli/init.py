"""``spooky init``: write a configuration to start from."""

import shlex
from pathlib import Path

import click

from spooky.cli.errors import CommandError, no_directory
from spooky.config.starter import starter


@click.command()
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True), default="spooky.yaml")
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
def command(path: Path, force: bool) -> None:
    """Write a commented configuration to start from.

    PATH is spooky.yaml in this directory if not given; - is standard output.
    """
    if str(path) == "-":
        click.echo(starter(), nl=False)
        return
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(starter())
    except FileExistsError:
        raise CommandError(
            f"{path} exists", "give --force to overwrite it, or another path"
        ) from None
    except FileNotFoundError:
        raise no_directory(path) from None
    name = shlex.quote(str(path))
    click.echo(
        f"wrote {path}\n\n"
        f"Put a certificate and its key beside it as cert.pem and key.pem, name your backends, "
        f"then:\n\n  spooky check {name}\n  spooky serve --config {name}"
    )
