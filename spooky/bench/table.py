"""A run as a table for the terminal."""

from collections.abc import Sequence
from typing import Final

from spooky.bench.document import Document, ProxyRun, ScenarioRun

Row = tuple[str, ...]


def number(value: float | None) -> str:
    """Return a figure with as many digits as it deserves."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("requests/s", "requests_per_second"),
    ("req/CPU-s", "requests_per_cpu_second"),
    ("conn/s", "connections_per_second"),
    ("conn/CPU-s", "connections_per_cpu_second"),
    ("MB/s", "mb_per_second"),
    ("MB/CPU-s", "mb_per_cpu_second"),
    ("B/conn", "bytes_per_connection"),
    ("p50 ms", "latency_p50_ms"),
    ("p90 ms", "latency_p90_ms"),
    ("p99 ms", "latency_p99_ms"),
    ("p99.9 ms", "latency_p999_ms"),
    ("max ms", "latency_max_ms"),
    ("peak MB", "peak_memory_mb"),
    ("CPU", "proxy_cores"),
    ("load CPU", "load_cores"),
)
"""Heading and figure; one that no proxy shows is left out."""


def lines(run: Document) -> list[str]:
    """Return a run as text: a table for each scenario."""
    found = [where(run)]
    for scenario in run.scenarios:
        found += ["", *_scenario(scenario)]
    return found


def where(run: Document) -> str:
    """Return what was measured on what, in a line."""
    machine = run.machine
    return (
        f"Spooky {run.spooky} ({run.engine} engine), {machine.cpu}, {machine.cores} cores, "
        f"Linux {machine.kernel}, Python {machine.python}"
    )


def title(scenario: ScenarioRun) -> str:
    """Return what was measured, in a line."""
    setup = scenario.setup
    loop = f"open loop at {number(setup.rate)}/s" if setup.rate else "closed loop"
    workers = f"{setup.workers} worker{'s' if setup.workers > 1 else ''}, " if setup.workers else ""
    return (
        f"{setup.name}: {setup.about}; {setup.connections} x {setup.streams}, {loop}; "
        f"{workers}median of {len(scenario.proxies[0].rounds)} x {setup.seconds:g} s"
    )


def _scenario(scenario: ScenarioRun) -> list[str]:
    return [
        title(scenario),
        *(f"  {line}" for line in aligned(rows(scenario))),
        *(f"  {line}" for line in workers(scenario)),
        *(f"  ! {warning}" for warning in scenario.warnings),
    ]


def rows(scenario: ScenarioRun) -> list[Row]:
    """Return headings, a row for each proxy, and one for each peer of how much better ours was."""
    columns = [
        (heading, name)
        for heading, name in COLUMNS
        if any(getattr(proxy.medians, name) is not None for proxy in scenario.proxies)
    ]
    found: list[Row] = [("", *(heading for heading, _ in columns), "±")]
    found += [_row(proxy, columns, scenario.setup.headline) for proxy in scenario.proxies]
    for peer, ratios in scenario.ratios.items():
        cells = (f"{ratios[name]:.2f}x" if name in ratios else "" for _, name in columns)
        found.append((f"better than {peer}", *cells, ""))
    return found


def workers(scenario: ScenarioRun) -> list[str]:
    """Say how connections were spread over the workers of each proxy that has several."""
    return [_workers(proxy) for proxy in scenario.proxies if len(proxy.connections_by_worker) > 1]


def _row(proxy: ProxyRun, columns: Sequence[tuple[str, str]], headline: str) -> Row:
    cells = (number(getattr(proxy.medians, name)) for _, name in columns)
    return (proxy.name, *cells, f"{proxy.spread.get(headline, 0.0):.0%}")


def _workers(proxy: ProxyRun) -> str:
    total = sum(proxy.connections_by_worker.values())
    shares = (
        f"{slot}: {count} ({count / total:.0%})"
        for slot, count in proxy.connections_by_worker.items()
    )
    return f"{proxy.name}: connections by worker {', '.join(shares)}"


def aligned(rows: Sequence[Row]) -> list[str]:
    """Return rows with the first column to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
