"""Print pytest-benchmark's JSON as a table: ``python tools/bench_table.py FILE``.

A row is a benchmark group, its columns the runs with ``compiled`` and ``pure`` in their parameters.
A run that is a loop says in its extra information how many ``calls`` it makes, and how many
``harness_seconds`` it would take without them.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from spooky.bench.micro import NS_PER_S, SIDES, lines


def medians(benchmarks: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, for each group and side, the median cost of a call in nanoseconds."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for benchmark in benchmarks:
        (side,) = (side for side in SIDES if side in benchmark["param"].split("-"))
        group = benchmark["group"]
        if side in table[group]:
            sys.exit(f"two benchmarks for {side} in group {group!r}")
        extra = benchmark["extra_info"]
        seconds = benchmark["stats"]["median"] - extra.get("harness_seconds", 0.0)
        table[group][side] = seconds / extra.get("calls", 1) * NS_PER_S
    return table


def main() -> None:
    """Print the table of the file named on the command line."""
    print("\n".join(lines(medians(json.loads(Path(sys.argv[1]).read_text())["benchmarks"]))))


if __name__ == "__main__":
    main()
