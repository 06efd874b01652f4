"""A finished run, as it is saved; the JSON that ``--json`` writes and ``--compare`` reads."""

import os
import platform
from pathlib import Path
from typing import Final

import msgspec

from spooky._version import __version__
from spooky.bench.figures import Figures
from spooky.bench.plan import Kind, Link, SlowPlan
from spooky.bench.programs import BenchError
from spooky.protocol.quic.engines import chosen_engine

FORMAT: Final = 1
"""Version of the format; it changes when a reader of the old one would misread the new."""


class Machine(msgspec.Struct, frozen=True):
    """Where a run was made.

    Attributes:
        cpu: The processor's name.
        cores: Cores that could be used.
        kernel: Of Linux.
        python: Version.
    """

    cpu: str
    cores: int
    kernel: str
    python: str


class ProxyRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one proxy showed in a scenario.

    Attributes:
        name: Its name; ``target`` for a server that was only pointed at.
        rounds: Each turn, in order; turns of the same number ran one after the other.
        medians: Of the rounds.
        spread: By figure: half of largest minus smallest, by the median.
        latencies: Microseconds and counts of all rounds together.
        errors: What went wrong, and how often.
        connections_by_worker: Connections of all rounds together that each worker got; empty where
            that cannot be seen.
    """

    name: str
    rounds: list[Figures]
    medians: Figures
    spread: dict[str, float]
    latencies: list[tuple[int, int]]
    errors: dict[str, int]
    connections_by_worker: dict[int, int]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; only runs that agree in it can be compared.

    Attributes:
        name: Its name.
        about: What it is.
        kind: What the load consisted of.
        headline: The figure it is about.
        connections: Open at once.
        streams: Requests in flight on each.
        rate: Requests begun in a second (open loop); 0 for a closed loop.
        seconds: Length of a round.
        workers: Of each proxy; 0 for a server that was only pointed at.
        slow: Clients that read slowly meanwhile.
        link: What was between clients and proxy.
    """

    name: str
    about: str
    kind: Kind
    headline: str
    connections: int
    streams: int
    rate: float
    seconds: float
    workers: int
    slow: SlowPlan | None = None
    link: Link | None = None


class ScenarioRun(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario and what all proxies showed in it.

    Attributes:
        setup: What was measured.
        proxies: Ours first.
        ratios: By peer and figure: how many times better ours was.
        warnings: What makes figures doubtful.
    """

    setup: Setup
    proxies: list[ProxyRun]
    ratios: dict[str, dict[str, float]]
    warnings: list[str]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run.

    Attributes:
        format: :data:`FORMAT`.
        spooky: Version.
        engine: The QUIC engine of Spooky and of the load generator.
        machine: Where it was made.
        scenarios: In the order of the table of scenarios.
    """

    format: int
    spooky: str
    engine: str
    machine: Machine
    scenarios: list[ScenarioRun]


def this_machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
    )


def this_engine() -> str:
    """Return the name of the QUIC engine in use."""
    return chosen_engine(None).name


def document(scenarios: list[ScenarioRun]) -> Document:
    """Return a run that was made here and now."""
    return Document(
        format=FORMAT,
        spooky=__version__,
        engine=this_engine(),
        machine=this_machine(),
        scenarios=scenarios,
    )


def save(run: Document, path: Path) -> None:
    """Write a run to a file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def load(path: Path) -> Document:
    """Read a run from a file.

    Raises:
        BenchError: It is none.
        OSError: It cannot be read.
    """
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Document)
    except msgspec.DecodeError as error:
        raise BenchError(
            f"{path} is not a saved run: {error}", "save one with `spooky bench run --json FILE`"
        ) from None
    if run.format != FORMAT:
        raise BenchError(
            f"{path} has format {run.format}, and this Spooky reads format {FORMAT}",
            "save one with this version",
        )
    return run


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
