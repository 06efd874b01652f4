"""The report of a run is one file, well-formed, and draws what was measured."""

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from spooky import _core

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky.bench import report
from spooky.bench.campaign import ratios
from spooky.bench.document import Document, ProxyRun, ScenarioRun
from spooky.bench.figures import Figures, medians
from spooky.bench.plots import points
from spooky.bench.scenarios import SCENARIOS
from tests.bench.test_compare import SETUP, run
from tests.interop.conftest import program

BROWSER_SECONDS = 60

# Of what a browser makes of the page: what it fetched, and which texts are not whole in their plot.
INSPECTION = """<pre id="seen"></pre><script>
addEventListener("load", () => {
  const outside = [...document.querySelectorAll("svg")].flatMap(svg => {
    const room = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text, rect, polyline")].filter(part => {
      const box = part.getBoundingClientRect();
      return box.left < room.left - 1 || box.right > room.right + 1
        || box.top < room.top - 1 || box.bottom > room.bottom + 1;
    }).map(part => part.outerHTML);
  });
  document.getElementById("seen").textContent = JSON.stringify({
    outside,
    fetched: performance.getEntriesByType("resource").length,
    plots: document.querySelectorAll("svg").length,
    drawn: document.querySelector("rect").getBoundingClientRect().width,
  });
});
</script>"""


def measured(name: str, rate: float) -> ProxyRun:
    rounds = [
        Figures(
            requests_per_cpu_second=rate * factor,
            requests_per_second=rate * factor,
            latency_p50_ms=100 / rate,
            peak_memory_mb=100.0,
        )
        for factor in (0.9, 1.0, 1.05)
    ]
    return ProxyRun(
        name=name, rounds=rounds, medians=medians(rounds), spread={}, errors={},
        latencies=[(900, 50), (2_000, 45), (30_000, 5)], connections_by_worker={0: 6, 1: 4},
    )  # fmt: skip


def whole_run(about: str = "GET of 1 KiB") -> Document:
    ours, peer = measured("spooky", 20_000.0), measured("envoy", 10_000.0)
    made = run(setup=replace(SETUP, about=about))
    scenario = ScenarioRun(
        setup=made.scenarios[0].setup,
        proxies=[ours, peer],
        ratios={"envoy": ratios(ours, peer)},
        warnings=["spooky: rounds differ"],
    )
    return replace(made, scenarios=[scenario])


def tree(page: str) -> ElementTree.Element:
    """Parse a page as XML, which wants every element closed and every value quoted."""
    doctype, _, document = page.partition("\n")
    assert doctype == "<!doctype html>"
    return ElementTree.fromstring(document)


def test_a_report_needs_no_other_file() -> None:
    page = report.page(whole_run())
    found = {element.tag for element in tree(page).iter()}
    assert not found & {"script", "link", "img", "iframe", "object"}
    for outside in ("http:", "https:", "src=", "href=", "url(", "@import"):
        assert outside not in page


def test_bars_are_as_long_as_their_figures_and_say_the_ratio() -> None:
    root = tree(report.page(whole_run()))
    first = next(root.iter("svg"))
    ours, theirs = (float(rect.attrib["width"]) for rect in first.iter("rect"))
    assert ours == pytest.approx(2 * theirs, rel=0.01)
    assert len(list(first.iter("circle"))) == 6
    assert [text.text for text in first.iter("text")] == [
        "spooky", "20,000", "envoy", "10,000 (ours 2.00x as good)",
    ]  # fmt: skip


def test_curves_rise_from_the_fastest_request_to_the_slowest() -> None:
    assert points([(900, 50), (2_000, 45), (30_000, 5)]) == [
        (0.0, 0.9), (0.5, 0.9), (0.95, 2.0), (0.995, 30.0),
    ]  # fmt: skip
    lines = list(tree(report.page(whole_run())).iter("polyline"))
    assert len(lines) == 2
    corners = [corner.split(",") for corner in lines[0].attrib["points"].split()]
    across, down = ([float(corner[axis]) for corner in corners] for axis in (0, 1))
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)


def test_tables_warnings_workers_and_verdicts_are_there() -> None:
    page = report.page(whole_run(), ["small: WORSE"])
    cells = [cell.text for cell in tree(page).iter("td")]
    assert "better than envoy" in cells
    assert "2.00x" in cells
    items = [item.text for item in tree(page).iter("li")]
    assert "small: WORSE" in items
    assert "spooky: rounds differ" in items
    assert "spooky: connections by worker 0: 6 (60%), 1: 4 (40%)" in items


def test_what_a_run_says_is_text_and_no_markup() -> None:
    page = report.page(whole_run(about="https://x/?a=<script>&b"))
    assert "<script" not in page
    assert any("?a=<script>&b" in (element.text or "") for element in tree(page).iter("p"))


def test_every_scenario_has_figures_to_draw() -> None:
    assert {scenario.headline for scenario in SCENARIOS.values()} <= set(report.BARS)
    assert {name for names in report.BARS.values() for name in names} <= set(report.NAMES)


@pytest.mark.interop
def test_a_browser_shows_every_plot_whole_and_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report.page(whole_run()).replace("</body>", f"{INSPECTION}</body>"))
    done = subprocess.run(
        [
            program("chromium-headless-shell"),
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.partition('<pre id="seen">')[2].partition("</pre>")[0])
    assert seen["outside"] == []
    assert (seen["fetched"], seen["plots"]) == (0, 4)
    assert seen["drawn"] > 100
