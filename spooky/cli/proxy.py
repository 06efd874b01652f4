"""``spooky proxy``: HTTP/3 in front of one backend, without a file."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spooky.cli.errors import EXIT_FAILED, EXIT_OK
from spooky.cli.serving import serve_until_stopped

if TYPE_CHECKING:
    from spooky.config.schema import Configuration

DEFAULT_LISTEN = "127.0.0.1:9889"


@click.command()
@click.option(
    "--to",
    "backend",
    required=True,
    metavar="URL",
    help="The backend: http://HOST:PORT or https://HOST:PORT.",
)
@click.option(
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="ADDR:PORT",
    help="Where clients come in; port 0 takes a free one.",
)
@click.option(
    "--cert",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM file of the certificate and its chain; one is made if none is given.",
)
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False), help="PEM file of its private key."
)
@click.option("--insecure", is_flag=True, help="Do not verify the backend's certificate.")
def command(backend: str, listen: str, cert: str | None, key: str | None, insecure: bool) -> int:
    """Put HTTP/3 in front of one backend, without a file.

    Without --cert a certificate for localhost is made that no client trusts: use it to try things
    out, with `spooky request --insecure`, and never in earnest.

    Signals and exit codes are those of `spooky serve`.
    """
    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key go together: give both or neither")
    address, port = _parse_listen(listen)
    from spooky.config.hosts import parse_backend_address

    with tempfile.TemporaryDirectory(prefix="spooky-") as directory:
        made = cert is None or key is None
        if cert is None or key is None:
            cert, key = _make_certificate(Path(directory), address)
        configuration = _configuration(
            {"address": address, "port": port, "tls": {"cert": cert, "key": key}}, backend, insecure
        )
        # As it is asked: an address without a scheme is https.
        origin = parse_backend_address(backend)
        if made:
            click.echo(f"made a certificate for this run: {cert}", err=True)

        def announce(addresses: list[tuple[str, int]]) -> None:
            for host, bound_port in addresses:
                shown = f"[{host}]" if ":" in host else host
                click.echo(f"https://{shown}:{bound_port} -> {origin}", err=True)

        from spooky.control.candidate import make_candidate

        served = serve_until_stopped(lambda: (make_candidate(configuration), None), announce)
        return EXIT_OK if served else EXIT_FAILED


def _configuration(listen: dict[str, object], backend: str, insecure: bool) -> "Configuration":
    """Return what a file would say; what is wrong is said in terms of the options."""
    from spooky import config

    try:
        return config.from_mapping(
            {
                "version": 1,
                "listen": listen,
                "upstream": {
                    "backend": {
                        "route": {"path_prefix": "/"},
                        "backends": [{"id": "backend", "address": backend}],
                        "tls": {"verify_certificates": not insecure},
                    }
                },
            }
        )
    except config.ConfigurationError as error:
        problem = next(p for p in error.problems if p.severity is config.Severity.ERROR)
        option = "--to" if problem.path.startswith("upstream") else "--listen"
        hint = f"; {problem.remedy}" if problem.remedy else ""
        raise click.UsageError(f"{option}: {problem.message}{hint}") from error


def _parse_listen(listen: str) -> tuple[str, int]:
    """Return the address and the port of ``ADDR:PORT``, ``[ADDR]:PORT`` or ``:PORT``."""
    address, colon, port = listen.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") or "0.0.0.0"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise click.UsageError(
            f"--listen {listen!r} is not ADDR:PORT, such as 127.0.0.1:9889 or [::1]:9889"
        )
    return address, int(port)


def _make_certificate(directory: Path, address: str) -> tuple[str, str]:
    """Write a self-signed certificate and its key; the directory is private to this user."""
    from spooky.edge.self_signed import self_signed

    certificate, key = self_signed([address])
    certificate_path, key_path = directory / "cert.pem", directory / "key.pem"
    certificate_path.write_bytes(certificate)
    key_path.write_bytes(key)
    return str(certificate_path), str(key_path)
