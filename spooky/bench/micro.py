"""``spooky bench micro``: what one call of each kernel costs, compiled and as its twin does it.

A process is on one side, from its import on. So each side is measured by a process of its own,
``python -m spooky.bench.micro``, which takes its plan from stdin and writes a line of JSON for each
case to stdout.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from spooky._core import COMPILED
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.cases import CASES
from spooky.bench.programs import BenchError, Cores, pinned, tell

SIDES: Final = ("compiled", "pure")

ROUNDS: Final = 5
"""Of each case, however long they take."""

NS_PER_S: Final = 1_000_000_000


class MicroPlan(msgspec.Struct, frozen=True):
    """What one side measures.

    Attributes:
        seconds: For each case.
        words: Only cases with one of these in their names; all if there are none.
    """

    seconds: float
    words: tuple[str, ...] = ()


class Cost(msgspec.Struct, frozen=True):
    """What a call costs on one side.

    Attributes:
        name: Of the case.
        ns: Median of the rounds, by the calls of a round; nanoseconds.
        rounds: How many there were.
    """

    name: str
    ns: float
    rounds: int


Table = dict[str, dict[str, float]]
"""Nanoseconds by case and side."""


def chosen(words: Iterable[str]) -> list[Case]:
    """Return the cases with one of these words in their names; all if there are no words."""
    wanted = [word.lower() for word in words]
    return [
        case for case in CASES if not wanted or any(word in case.name.lower() for word in wanted)
    ]


def measure(case: Case, seconds: float) -> Cost:
    """Measure a case in this process.

    Raises:
        BenchError: The kernel does not do what the case is about.
    """
    work = case.prepare()
    try:
        if not work.right(work.run(*work.before())):
            raise BenchError(f"{case.name}: the kernel's answer is wrong")
        rounds = list(_rounds(work, seconds))
        spent = statistics.median(rounds) - bare_seconds(work)
    finally:
        work.close()
    return Cost(case.name, max(spent, 0.0) / work.calls * NS_PER_S, len(rounds))


def _rounds(work: Work, seconds: float) -> Iterator[float]:
    until = time.perf_counter() + seconds
    number = 0
    while number < ROUNDS or time.perf_counter() < until:
        state = work.before()
        begun = time.perf_counter()
        work.run(*state)
        yield time.perf_counter() - begun
        number += 1


def bare_seconds(work: Work) -> float:
    """Return what a round takes without the kernel's calls, in seconds."""
    if work.bare is None:
        return 0.0
    durations = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work.bare()
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


def run(plan: MicroPlan, progress: Callable[[str, str], None]) -> Table:
    """Measure both sides, one after the other, on a core of their own.

    Arguments:
        plan: What to measure.
        progress: Hears side and case of what was measured.

    Raises:
        BenchError: There is no such case, or a side came to an end before its time.
    """
    cases = chosen(plan.words)
    if not cases:
        raise BenchError(f"no case has {' or '.join(plan.words)} in its name")
    found: Table = {case.name: {} for case in cases}
    for side in SIDES if COMPILED else SIDES[1:]:
        environment = {"SPOOKY_PURE": "" if side == "compiled" else "1"}
        arguments = [sys.executable, "-m", "spooky.bench.micro"]
        with pinned(arguments, Cores(workers=0).load, environment) as process:
            assert process.stdout is not None
            tell(process, msgspec.json.encode(plan))
            for line in process.stdout:
                cost = msgspec.json.decode(line, type=Cost)
                found[cost.name][side] = cost.ns
                progress(side, cost.name)
            if process.wait() != 0:
                raise BenchError(f"the {side} kernels could not be measured to the end")
    return found


def lines(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return costs as a table in Markdown, with the ratio of both sides."""
    width = max(len(name) for name in table)
    rows = [
        f"| {'operation':<{width}} | {'compiled':>12} | {'pure':>12} | {'ratio':>6} |",
        f"| {'-' * width} | {'-' * 11}: | {'-' * 11}: | {'-' * 5}: |",
    ]
    for name, sides in sorted(table.items()):
        compiled, pure = (sides.get(side) for side in SIDES)
        ratio = f"{pure / compiled:.1f}" if compiled and pure else "-"
        cells = f"{_nanoseconds(compiled):>12} | {_nanoseconds(pure):>12} | {ratio:>6}"
        rows.append(f"| {name:<{width}} | {cells} |")
    return rows


def _nanoseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f} ns" if value < 100 else f"{value:,.0f} ns"


def main() -> None:
    """Measure what the plan on stdin says, on this process's side."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=MicroPlan)
    for case in chosen(plan.words):
        if case.offered:
            sys.stdout.buffer.write(msgspec.json.encode(measure(case, plan.seconds)) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
