"""``spooky serve``: run the proxy that a configuration file describes."""

from pathlib import Path

import click

from spooky.cli.errors import EXIT_FAILED, EXIT_OK
from spooky.cli.serving import serve_until_stopped
from spooky.config.schema import DEFAULT_PATH


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
def command(path: Path) -> int:
    """Run the proxy that a configuration file describes.

    SIGTERM and SIGINT let requests in flight finish for up to
    performance.shutdown_drain_timeout_ms; a second signal stops at once. SIGUSR1 reopens log
    files after they were rotated.

    Exit codes: 0 after an orderly end, 1 if requests were cut or it could not start, 2 for wrong
    usage.
    """
    from spooky import config

    configuration = config.load(path)
    return EXIT_OK if serve_until_stopped(configuration, _announce) else EXIT_FAILED


def _announce(addresses: list[tuple[str, int]]) -> None:
    for host, port in addresses:
        click.echo(f"serving HTTP/3, HTTP/2 and HTTP/1.1 on {host} port {port}", err=True)
