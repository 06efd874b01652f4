"""``spooky certs``: the certificates that are presented."""

from pathlib import Path
from typing import Final

import click

from spooky.cli.control_client import get, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.table import show_table

EXIT_EXPIRING: Final = 3
"""A certificate has expired, or does so within the time that was asked for."""

DAY_SECONDS: Final = 86_400
FINGERPRINT_SHOWN: Final = 16


@click.command()
@click.option(
    "--within",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="DAYS",
    help="Exit with 3 if one expires within so many days.",
)
@json_option("Print them as JSON.")
@socket_option
def command(within: int, as_json: bool, path: Path) -> int:
    """List the certificates that are presented, and when they expire.

    Exit codes: 0 if all are good for longer, 3 if one is not, 1 if Spooky cannot be asked.
    """
    certificates = get(path, "/admin/runtime/certificates")
    rows = [
        (
            one["listener"],
            one["not_after"][:10],
            f"{one['seconds_left'] // DAY_SECONDS} d",
            one["fingerprint"][:FINGERPRINT_SHOWN],
            ", ".join(one["names"]),
        )
        for one in certificates
    ]
    titles = ("LISTENER", "UNTIL", "LEFT", "FINGERPRINT", "NAMES")
    show_table(titles, rows, certificates if as_json else None)
    left = min((one["seconds_left"] for one in certificates), default=DAY_SECONDS)
    return EXIT_EXPIRING if left <= within * DAY_SECONDS else 0
