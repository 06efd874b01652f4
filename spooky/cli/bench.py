"""``spooky bench``: measure this proxy, alone or against others in the same run."""

import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spooky.cli.bench_micro import micro
from spooky.cli.errors import EXIT_REGRESSION, CommandError, check_writable
from spooky.cli.progress import StatusLine

if TYPE_CHECKING:
    from spooky.bench.campaign import Moment, Options, Target
    from spooky.bench.document import Document
    from spooky.bench.scenarios import Scenario


@click.group()
def command() -> None:
    """Measure this proxy, alone or against others in the same run."""


command.add_command(micro)


def _names(value: str | None) -> tuple[str, ...]:
    return tuple(name for name in (value or "").split(",") if name)


@command.command()
@click.option(
    "--scenario", "scenarios", metavar="NAMES", help="Scenarios, separated by commas; or all."
)
@click.option("--against", metavar="NAMES", help="Peers, separated by commas: caddy, envoy.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="NUMBER",
    help="Rounds; in each, every proxy has one turn.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=4.0,
    show_default=True,
    metavar="SECONDS",
    help="Length of a round of one proxy.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Connections, instead of the scenario's.",
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Streams at once on each connection, instead of the scenario's.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PER_SECOND",
    help="Open loop: requests begun in a second, whatever becomes of them.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Workers of each proxy; 1 unless given.",
)
@click.option("--target", metavar="URL", help="Put load on a server that is there already.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Save the run as JSON in a file."
)
@click.option(
    "--html",
    "html_path",
    type=click.Path(path_type=Path),
    help="Write a report with plots, in one file that needs no other.",
)
@click.option(
    "--compare",
    "saved_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Judge against a saved run; exit with 3 if this one is worse.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=99),
    metavar="PERCENT",
    help="With --compare: worse by so much is no regression; 5 unless given.",
)
def run(
    scenarios: str | None,
    against: str | None,
    rounds: int,
    seconds: float,
    connections: int | None,
    streams: int | None,
    rate: float | None,
    workers: int | None,
    target: str | None,
    json_path: Path | None,
    html_path: Path | None,
    saved_path: Path | None,
    tolerance: float | None,
) -> None:
    """Start backend, proxy and load on this machine, and measure.

    Each worker of a proxy has a core of its own, load generator and backend share another; where
    there are too few, all share all. Peers take turns with Spooky in every round.

    Exit codes: 0 if it measured, and with --compare nothing is worse; 1 if it could not measure or
    compare; 2 for wrong usage; 3 if something is worse.
    """
    if target is not None and against:
        raise click.UsageError("--target measures one server, so there is nothing for --against")
    if target is not None and workers is not None:
        raise click.UsageError("--workers is about proxies that are started, and --target is there")
    if tolerance is not None and saved_path is None:
        raise click.UsageError("--tolerance is about --compare")
    for path in (json_path, html_path):
        if path is not None:
            check_writable(path)
    try:
        from spooky.bench.campaign import Campaign, Options
    except ImportError as error:
        raise CommandError(
            f"the load generator is not compiled: {error}",
            "install a wheel, or build with a C compiler and without SPOOKY_PURE",
        ) from error
    from spooky.bench import document, report, table
    from spooky.bench.programs import BenchError, working_directory

    options = Options(
        scenarios=_scenarios(_names(scenarios), connections, streams, rate, target is not None),
        against=_peers(_names(against)),
        rounds=rounds,
        seconds=seconds,
        rate=rate or 0.0,
        workers=workers or 1,
        target=_target(target) if target is not None else None,
    )
    status = StatusLine(sys.stderr)
    try:
        comparison = None
        if saved_path is not None:
            comparison = Comparison(saved_path, options, tolerance)
        with working_directory() as directory:
            result = Campaign(options, directory, lambda moment: status.show(_moment(moment))).run()
    except BenchError as error:
        raise CommandError(error.message, error.remedy) from error
    finally:
        status.clear()
    click.echo("\n".join(table.lines(result)))
    if json_path is not None:
        document.save(result, json_path)
    verdicts = comparison.judge(result) if comparison is not None else []
    if html_path is not None:
        html_path.write_text(report.page(result, verdicts))
    if comparison is not None:
        comparison.conclude()


class Comparison:
    """Judges a run against a saved one, which is read and checked before the run begins.

    Arguments:
        path: Of the saved run.
        options: Of the run to come.
        tolerance: In percent; ``None`` for the usual one.

    Raises:
        BenchError: The two cannot be compared.
        OSError: The saved run cannot be read.
    """

    def __init__(self, path: Path, options: "Options", tolerance: float | None) -> None:
        from spooky.bench import compare, document
        from spooky.bench.campaign import setup_of

        self._path = path
        self._worse = self._missing = 0
        self._tolerance = compare.TOLERANCE if tolerance is None else tolerance / 100
        self._saved = document.load(path)
        setups = [setup_of(scenario, options) for scenario in options.scenarios]
        compare.check(self._saved, document.this_machine(), document.this_engine(), setups)
        compare.check_rounds(self._saved, options.rounds)

    def judge(self, result: "Document") -> list[str]:
        """Print and return what is better and what is worse."""
        from spooky.bench import compare

        verdicts = compare.judge(self._saved, result, self._tolerance)
        self._worse = sum(verdict.finding is compare.Finding.WORSE for verdict in verdicts)
        self._missing = sum(verdict.finding is compare.Finding.MISSING for verdict in verdicts)
        lines = compare.lines(verdicts, self._tolerance)
        click.echo("\n".join([f"\nCompared with {self._path}:", *(f"  {line}" for line in lines)]))
        return lines

    def conclude(self) -> None:
        """End the command.

        Raises:
            CommandError: Something is worse, or could not be judged.
        """
        if self._worse:
            raise CommandError(
                f"figures that are worse than in {self._path}: {self._worse}",
                "measure again before you believe it: the machine may have been busy",
                EXIT_REGRESSION,
            )
        if self._missing:
            raise CommandError(
                f"figures that could not be compared with {self._path}: {self._missing}",
                "measure longer rounds, with --seconds, and save such a run with --json",
            )


def _moment(moment: "Moment") -> str:
    """Say where a run is."""
    rate = f"{moment.per_second:,.0f}/s" if moment.per_second else "..."
    return (
        f"turn {moment.turn} of {moment.turns}  {moment.scenario}  round {moment.round}  "
        f"{moment.proxy}  {rate}"
    )


def _scenarios(
    names: Sequence[str],
    connections: int | None,
    streams: int | None,
    rate: float | None,
    at_target: bool,
) -> "tuple[Scenario, ...]":
    """Return the scenarios of these names, changed as asked."""
    from spooky.bench.plan import Kind
    from spooky.bench.scenarios import SCENARIOS

    chosen = names or (("small",) if at_target else ("small", "medium"))
    if list(chosen) == ["all"]:
        chosen = tuple(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        raise click.UsageError(
            f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}"
        )
    found = tuple(SCENARIOS[name] for name in chosen)
    for scenario in found:
        if at_target and scenario.kind is Kind.IDLE:
            raise click.UsageError(
                f"the scenario {scenario.name} weighs a proxy's memory, which --target does not see"
            )
        if rate is not None and scenario.kind is not Kind.REQUESTS:
            raise click.UsageError(
                f"--rate is about requests, and the scenario {scenario.name} makes none"
            )
    return tuple(
        replace(
            scenario,
            connections=connections or scenario.connections,
            streams=streams or scenario.streams,
        )
        for scenario in found
    )


def _peers(names: Sequence[str]) -> tuple[str, ...]:
    from spooky.bench.proxies import PEERS

    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise click.UsageError(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    return tuple(dict.fromkeys(names))


def _target(url: str) -> "Target":
    from spooky.bench.campaign import Target
    from spooky.cli.request import parse_url

    parts = parse_url(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise CommandError(
            f"{parts.hostname}: {error.strerror}", "see whether it resolves"
        ) from None
    return Target(parts, str(found[0][4][0]))
