"""A run as a page of HTML that needs nothing else: tables, and plots as inline SVG."""

from collections.abc import Sequence
from html import escape
from typing import Final

from spooky.bench import table
from spooky.bench.document import Document, ScenarioRun
from spooky.bench.figures import LOWER_IS_BETTER
from spooky.bench.plots import Bar, Curve, bars, percentiles
from spooky.bench.scenarios import Headline

BARS: Final[dict[str, tuple[str, ...]]] = {
    Headline.REQUESTS: ("requests_per_cpu_second", "requests_per_second", "peak_memory_mb"),
    Headline.BYTES: ("mb_per_cpu_second", "mb_per_second", "peak_memory_mb"),
    Headline.THROUGHPUT: ("mb_per_second", "mb_per_cpu_second", "peak_memory_mb"),
    Headline.CONNECTIONS: (
        "connections_per_cpu_second", "connections_per_second", "peak_memory_mb",
    ),
    Headline.REQUEST_RATE: ("requests_per_second",),
    Headline.CONNECTION_RATE: ("connections_per_second",),
    Headline.MEMORY: ("bytes_per_connection", "peak_memory_mb"),
}  # fmt: skip
"""The figures that are drawn, by what a scenario is about."""

NAMES: Final = {
    "requests_per_cpu_second": "Requests per CPU-second",
    "requests_per_second": "Requests per second",
    "mb_per_cpu_second": "MB per CPU-second",
    "mb_per_second": "MB per second",
    "connections_per_cpu_second": "Connections per CPU-second",
    "connections_per_second": "Connections per second",
    "bytes_per_connection": "Bytes per idle connection",
    "peak_memory_mb": "Peak memory, MB",
}

COLOURS: Final = 3
"""Proxies that a run has at most: ours and two peers."""

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1f24; --faint: #667; --rule: #d9dce1; --page: #fff;
  --c0: #2563c9; --c1: #c2620a; --c2: #23846a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --faint: #99a; --rule: #3a3f47;
  --page: #16181c; --c0: #6ea2f5; --c1: #eb9a4d; --c2: #5cc0a2; } }
body { margin: 2rem auto; max-width: 68rem; padding: 0 1rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 3rem; } h3 { font-size: 1rem; }
p.where, figcaption { color: var(--faint); }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; }
div.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: 1rem 0 0; max-width: 100%; }
svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.tick { fill: var(--faint); }
svg line { stroke: var(--rule); }
svg polyline { fill: none; stroke-width: 2; }
svg circle.dot { fill: var(--page); stroke: var(--ink); }
"""


def page(run: Document, verdicts: Sequence[str] = ()) -> str:
    """Return a run as a page.

    Arguments:
        run: What was measured.
        verdicts: What a comparison with a saved run found, a sentence each.
    """
    parts = ["<h1>spooky bench</h1>", f'<p class="where">{escape(table.where(run))}</p>']
    if verdicts:
        parts += ["<h2>Compared with a saved run</h2>", _list(verdicts)]
    parts += [_scenario(scenario) for scenario in run.scenarios]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width"/>'
        f"<title>spooky bench</title><style>{STYLE}{_colours()}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _scenario(scenario: ScenarioRun) -> str:
    curves = [
        Curve(proxy.name, proxy.latencies, number) for number, proxy in enumerate(scenario.proxies)
    ]
    plots = [
        _figure(f"{NAMES[figure]}{_direction(figure)}", _bars(scenario, figure))
        for figure in BARS[scenario.setup.headline]
        if _shown(scenario, figure)
    ]
    latency = percentiles(f"{scenario.setup.name}: latency by percentile", curves)
    if latency:
        plots.append(_figure("Latency by percentile, all rounds together", latency))
    return (
        f"<section><h2>{escape(scenario.setup.name)}</h2><p>{escape(table.title(scenario))}</p>"
        f"{_table(scenario)}{_list([*table.workers(scenario), *scenario.warnings])}"
        f'<div class="plots">{"".join(plots)}</div></section>\n'
    )


def _shown(scenario: ScenarioRun, figure: str) -> bool:
    return any(getattr(proxy.medians, figure) is not None for proxy in scenario.proxies)


def _bars(scenario: ScenarioRun, figure: str) -> str:
    shown = []
    for number, proxy in enumerate(scenario.proxies):
        value = getattr(proxy.medians, figure)
        if value is None:
            continue
        ratio = scenario.ratios.get(proxy.name, {}).get(figure)
        label = table.number(value) + (f" (ours {ratio:.2f}x as good)" if ratio else "")
        rounds = [found for turn in proxy.rounds if (found := getattr(turn, figure)) is not None]
        shown.append(Bar(proxy.name, value, label, rounds, number))
    return bars(f"{scenario.setup.name}: {NAMES[figure]}", shown)


def _direction(figure: str) -> str:
    return "; less is better" if figure in LOWER_IS_BETTER else ""


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _table(scenario: ScenarioRun) -> str:
    heading, *rows = table.rows(scenario)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _colours() -> str:
    return "".join(
        f"svg .fill{number} {{ fill: var(--c{number}); fill-opacity: .8; }} "
        f"svg .line{number} {{ stroke: var(--c{number}); }} "
        f"svg text.text{number} {{ fill: var(--c{number}); font-weight: 600; }}\n"
        for number in range(COLOURS)
    )
