"""Is this run worse than a saved one? A judgement with a stated confidence.

The rounds of both runs are put in one heap and dealt out again in every possible way. If the two
runs were of the same program, the actual deal would be one of many alike; so the share of deals
that look at least as bad is the chance of a false alarm (a permutation test). It supposes nothing
about how figures scatter. What both runs measured of the same peers in the same rounds is divided
out first, so that a slower machine is no slower proxy.
"""

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from spooky.bench.document import Document, Machine, ScenarioRun, Setup
from spooky.bench.figures import LOWER_IS_BETTER
from spooky.bench.programs import BenchError

FALSE_ALARM: Final = 0.01
"""Chance that is accepted of calling a regression what is none; for each figure."""

TOLERANCE: Final = 0.05
"""By how much a figure may be worse before it is a regression, unless told otherwise: what a
restart on another day does by itself."""

DEALS: Final = 20_000
"""Above so many deals, as many at random stand for all of them."""

SEED: Final = 1

ALIKE: Final = 1e-12
"""By what sums may differ that are equal but for the order of their terms."""

OF_THE_PROGRAM: Final = frozenset({"peak_memory_mb", "bytes_per_connection"})
"""Figures that a slow machine leaves as they are, so that peers say nothing about them."""


class Finding(StrEnum):
    """What can be said of a figure."""

    WORSE = "worse"
    BETTER = "better"
    UNCHANGED = "unchanged"
    UNCLEAR = "unclear"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure, then and now.

    Attributes:
        scenario: Its name.
        figure: Its name.
        before: Median of the saved run; ``None`` if no round has it.
        after: Median of this run; ``None`` if no round has it.
        change: By how much it is better (above 0) or worse, peers divided out: 0.1 is a tenth.
        doubt: Chance that the saved run's program would look as bad, or as good, by more than is
            tolerated.
        finding: What follows.
        peers: What was divided out.
    """

    scenario: str
    figure: str
    before: float | None
    after: float | None
    change: float
    doubt: float
    finding: Finding
    peers: tuple[str, ...]


def check(saved: Document, machine: Machine, engine: str, setups: Sequence[Setup]) -> None:
    """Make sure that a run to come can be compared with a saved one.

    Raises:
        BenchError: They do not measure the same on the same machine.
    """
    differences = [
        f"the {name} was {then}, and is {now}"
        for name, then, now in (
            *_differences(saved.machine, machine),
            *([("engine", saved.engine, engine)] if saved.engine != engine else []),
        )
    ]
    known = {scenario.setup.name: scenario.setup for scenario in saved.scenarios}
    for setup in setups:
        then = known.get(setup.name)
        if then is None:
            differences.append(f"the scenario {setup.name} was not measured")
        else:
            differences += [
                f"{setup.name}: {name} was {before}, and is {now}"
                for name, before, now in _differences(then, setup)
            ]
    if differences:
        raise BenchError(
            "this run cannot be compared with the saved one: " + "; ".join(differences),
            "measure as the saved run did, or save a new one with --json",
        )


def check_rounds(saved: Document, rounds: int) -> None:
    """Make sure that there are rounds enough to be sure of anything.

    Raises:
        BenchError: Even the clearest regression could be chance.
    """
    for scenario in saved.scenarios:
        before = len(scenario.proxies[0].rounds)
        if 1 / math.comb(before + rounds, rounds) > FALSE_ALARM:
            raise BenchError(
                f"{before} saved rounds against {rounds} cannot show anything with "
                f"{1 - FALSE_ALARM:.0%} confidence, however clear it is",
                "--rounds 5 in both runs is enough",
            )


def _differences(then: msgspec.Struct, now: msgspec.Struct) -> Iterator[tuple[str, object, object]]:
    for name in then.__struct_fields__:
        before, after = getattr(then, name), getattr(now, name)
        if before != after:
            yield name, before, after


def judge(saved: Document, run: Document, tolerance: float = TOLERANCE) -> list[Verdict]:
    """Judge what a run shows of its first proxy against a saved run that :func:`check` let pass.

    Arguments:
        saved: Before.
        run: After.
        tolerance: By how much a figure may be worse: 0.05 is a twentieth.
    """
    known = {scenario.setup.name: scenario for scenario in saved.scenarios}
    return [
        _verdict(known[scenario.setup.name], scenario, figure, tolerance)
        for scenario in run.scenarios
        for figure in _judged(scenario.setup)
    ]


def _judged(setup: Setup) -> list[str]:
    """Return the figures that are judged: fewer figures, fewer false alarms."""
    return [
        setup.headline,
        # The memory of a server that was only pointed at is out of sight.
        *(["peak_memory_mb"] if setup.workers else []),
        # In a closed loop, latency is but the number of requests in flight by their rate.
        *(["latency_p99_ms"] if setup.rate else []),
    ]


def _verdict(before: ScenarioRun, after: ScenarioRun, figure: str, tolerance: float) -> Verdict:
    """Judge a figure."""
    medians = [getattr(run.proxies[0].medians, figure) for run in (before, after)]
    peers = _common_peers(before, after, figure)
    then, now = (_goodness(run, figure, peers) for run in (before, after))
    if not then or not now:
        return Verdict(
            scenario=after.setup.name,
            figure=figure,
            before=medians[0],
            after=medians[1],
            change=0.0,
            doubt=1.0,
            finding=Finding.MISSING,
            peers=peers,
        )
    change = statistics.fmean(now) - statistics.fmean(then)
    allowed = -math.log1p(-tolerance)
    worse = chance([value - allowed for value in then], now)
    better = chance([-value - allowed for value in then], [-value for value in now])
    finding = Finding.UNCHANGED
    if worse <= FALSE_ALARM:
        finding = Finding.WORSE
    elif better <= FALSE_ALARM:
        finding = Finding.BETTER
    elif abs(change) > allowed:
        finding = Finding.UNCLEAR
    return Verdict(
        scenario=after.setup.name,
        figure=figure,
        before=medians[0],
        after=medians[1],
        change=math.expm1(change),
        doubt=min(worse, better),
        finding=finding,
        peers=peers,
    )


def _common_peers(before: ScenarioRun, after: ScenarioRun, figure: str) -> tuple[str, ...]:
    if figure in OF_THE_PROGRAM:
        return ()
    then = {proxy.name for proxy in before.proxies[1:]}
    return tuple(proxy.name for proxy in after.proxies[1:] if proxy.name in then)


def _goodness(run: ScenarioRun, figure: str, peers: tuple[str, ...]) -> list[float]:
    """Return a logarithm for each round, more for better; nothing if a round lacks the figure."""
    sign = -1.0 if figure in LOWER_IS_BETTER else 1.0
    measured = [run.proxies[0], *(proxy for proxy in run.proxies[1:] if proxy.name in peers)]
    found = []
    for turns in zip(*(proxy.rounds for proxy in measured), strict=True):
        values = [getattr(turn, figure) for turn in turns]
        if any(value is None or value <= 0 for value in values):
            return []
        ours, *theirs = (math.log(value) for value in values)
        found.append(sign * (ours - (statistics.fmean(theirs) if theirs else 0.0)))
    return found


def chance(then: Sequence[float], now: Sequence[float]) -> float:
    """Return the share of deals of all these values in which ``now`` is as low as it is, or lower.

    Arguments:
        then: What was measured before.
        now: What is measured now; more is better.
    """
    heap = [*then, *now]
    limit = sum(now) + ALIKE
    count = math.comb(len(heap), len(now))
    if count <= DEALS:
        low = sum(sum(deal) <= limit for deal in itertools.combinations(heap, len(now)))
        return low / count
    dealer = random.Random(SEED)
    low = sum(sum(dealer.sample(heap, len(now))) <= limit for _ in range(DEALS))
    # The actual deal is one of all.
    return (low + 1) / (DEALS + 1)


def lines(verdicts: Sequence[Verdict], tolerance: float) -> list[str]:
    """Return verdicts as text."""
    return [line(verdict, tolerance) for verdict in verdicts]


def line(verdict: Verdict, tolerance: float) -> str:
    """Return a verdict as a sentence."""
    relative = f" relative to {' and '.join(verdict.peers)}" if verdict.peers else ""
    if verdict.finding is Finding.MISSING or verdict.before is None or verdict.after is None:
        return (
            f"{verdict.scenario}: {verdict.figure}{relative} NOT JUDGED: "
            "a round of one of the runs has no such figure, or none above 0"
        )
    sure = f"{1 - verdict.doubt:.1%} sure that it is more than {tolerance:.0%}"
    said = {
        Finding.WORSE: f"WORSE, {sure}",
        Finding.BETTER: f"better, {sure}",
        Finding.UNCHANGED: f"no change of more than {tolerance:.0%} to be seen",
        Finding.UNCLEAR: "perhaps changed: the rounds differ too much to tell, so make more",
    }[verdict.finding]
    return (
        f"{verdict.scenario}: {verdict.figure} {verdict.before:,.4g} -> {verdict.after:,.4g}, "
        f"{verdict.change:+.1%}{relative}: {said}"
    )
