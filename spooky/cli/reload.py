"""``spooky reload``: put in force what the configuration file says now."""

from pathlib import Path
from typing import Final

import click

from spooky.cli.control_client import asked_options, post, socket_option
from spooky.cli.json_option import json_option
from spooky.cli.probation import probation_option, show_watched

_AWAITED: Final = {
    "reload": "what the file says to come in force",
    "reload-certs": "the certificates to come in force",
    "restart": "new workers to take over",
}


@click.command()
@click.option(
    "--certificates", is_flag=True, help="Only certificates, keys, authorities and tokens."
)
@click.option("--workers", is_flag=True, help="Nothing of the file: have new workers take over.")
@asked_options
@probation_option()
@json_option("Print what came of it as JSON.")
@socket_option
def command(
    certificates: bool,
    workers: bool,
    reason: str,
    expect: int | str | None,
    probation: int | None,
    as_json: bool,
    path: Path,
) -> int:
    """Put in force what the configuration file says now.

    The file is the one that `spooky serve` was started with, or the last that `spooky apply` put in
    force. If anything is wrong with it, what is in force stays in force.

    If it is on probation, the command waits for the end of it.

    Certificates are taken by themselves when they change: `--certificates` is for those who want to
    hear at once whether they can be used. `--workers` replaces worker processes, one generation for
    another; their streams have the time for draining.

    Exit codes: 0 if it is in force, 1 if not, 2 for wrong usage, 3 if it was taken back because
    traffic fared worse.
    """
    wanted = {"reason": reason, "expected_generation": expect}
    act = "reload"
    if certificates or workers:
        if certificates and workers:
            raise click.UsageError("--certificates and --workers are two different changes")
        if probation is not None:
            raise click.UsageError("--probation is for a reload of the configuration")
        act = "reload-certs" if certificates else "restart"
    else:
        wanted["probation_seconds"] = probation
    answer = post(path, f"/admin/runtime/{act}", wanted, _AWAITED[act])
    return show_watched(path, answer, as_json)
