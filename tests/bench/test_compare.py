"""A run is judged against a saved one: with confidence, and only where both measured the same."""

import random
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from spooky import _core

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky.bench import compare, document
from spooky.bench.campaign import Options, Target, setup_of
from spooky.bench.compare import Finding, judge
from spooky.bench.document import FORMAT, Document, Machine, ProxyRun, ScenarioRun, Setup
from spooky.bench.figures import Figures, medians
from spooky.bench.plan import Kind
from spooky.bench.programs import BenchError
from spooky.bench.scenarios import SCENARIOS
from spooky.cli.bench import Comparison
from spooky.cli.errors import CommandError

MACHINE = Machine(cpu="a processor", cores=2, kernel="6.1", python="3.11")
SETUP = Setup(
    name="small", about="GET of 1 KiB", kind=Kind.REQUESTS, headline="requests_per_cpu_second",
    connections=10, streams=10, rate=0.0, seconds=4.0, workers=1,
)  # fmt: skip


def proxy(name: str, rates: list[float], memory: float = 100.0) -> ProxyRun:
    rounds = [
        Figures(
            requests_per_cpu_second=rate,
            peak_memory_mb=memory + at / 10,
            latency_p99_ms=100_000 / rate,
        )
        for at, rate in enumerate(rates)
    ]
    return ProxyRun(
        name=name, rounds=rounds, medians=medians(rounds), spread={}, latencies=[], errors={},
        connections_by_worker={},
    )  # fmt: skip


def run(*proxies: ProxyRun, setup: Setup = SETUP) -> Document:
    scenario = ScenarioRun(setup=setup, proxies=list(proxies), ratios={}, warnings=[])
    return Document(
        format=FORMAT, spooky="0.1.0", engine="native", machine=MACHINE, scenarios=[scenario]
    )


def around(middle: float, seed: int, rounds: int = 5, spread: float = 0.02) -> list[float]:
    random_ = random.Random(seed)
    return [middle * random_.uniform(1 - spread, 1 + spread) for _ in range(rounds)]


def finding(before: Document, after: Document, figure: str = SETUP.headline) -> Finding:
    (found,) = (verdict for verdict in judge(before, after) if verdict.figure == figure)
    return found.finding


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (0.85, Finding.WORSE),
        (0.99, Finding.UNCHANGED),
        (1.0, Finding.UNCHANGED),
        (1.01, Finding.UNCHANGED),
        (1.2, Finding.BETTER),
    ],
)
def test_a_change_is_seen_where_it_is_one(factor: float, expected: Finding) -> None:
    before = run(proxy("spooky", around(30_000, 1)))
    after = run(proxy("spooky", around(30_000 * factor, 2)))
    assert finding(before, after) is expected


def test_what_rounds_do_not_show_is_not_called_a_regression() -> None:
    before = run(proxy("spooky", [30_000, 31_000, 20_000, 25_000, 33_000]))
    after = run(proxy("spooky", [29_000, 19_000, 22_000, 28_000, 20_000]))
    assert finding(before, after) is Finding.UNCLEAR


def test_chance_alone_is_seldom_called_a_regression() -> None:
    """One in a hundred is what the confidence allows; here without any tolerance."""
    alarms = 0
    for seed in range(1000):
        before = run(proxy("spooky", around(30_000, seed, spread=0.1)))
        after = run(proxy("spooky", around(30_000, seed + 10_000, spread=0.1)))
        worst = judge(before, after, tolerance=0.0)[0]
        alarms += worst.finding is Finding.WORSE
    assert 1 <= alarms <= 20


def test_a_slower_machine_is_no_slower_proxy() -> None:
    """The peer lost as much as we did."""
    before = run(proxy("spooky", around(30_000, 1)), proxy("envoy", around(10_000, 2)))
    after = run(proxy("spooky", around(24_000, 3)), proxy("envoy", around(8_000, 4)))
    (speed, memory) = judge(before, after)
    assert (speed.finding, speed.peers) == (Finding.UNCHANGED, ("envoy",))
    assert memory.peers == ()
    alone = run(proxy("spooky", around(24_000, 3)))
    assert finding(before, alone) is Finding.WORSE


def test_more_memory_is_worse_and_latency_is_judged_in_an_open_loop() -> None:
    rates = around(30_000, 1)
    before, after = run(proxy("spooky", rates)), run(proxy("spooky", rates, memory=130.0))
    assert finding(before, after, "peak_memory_mb") is Finding.WORSE
    opened = replace(SETUP, rate=1000.0)
    before = run(proxy("spooky", rates), setup=opened)
    after = run(proxy("spooky", [rate / 2 for rate in rates]), setup=opened)
    assert finding(before, after, "latency_p99_ms") is Finding.WORSE


def test_a_figure_that_a_round_lacks_is_said_to_be_missing() -> None:
    before = run(proxy("spooky", around(30_000, 1)))
    lacks = proxy("spooky", around(30_000, 1))
    lacks.rounds[3] = replace(lacks.rounds[3], requests_per_cpu_second=None)
    for then, now in ((before, run(lacks)), (run(lacks), before)):
        assert finding(then, now) is Finding.MISSING
        assert finding(then, now, "peak_memory_mb") is Finding.UNCHANGED
        assert (
            "small: requests_per_cpu_second NOT JUDGED: "
            in compare.lines(judge(then, now), 0.05)[0]
        )


@pytest.mark.parametrize("none", [None, 0.0])
def test_a_figure_that_no_round_has_is_said_to_be_missing(none: float | None) -> None:
    rounds = [Figures(requests_per_cpu_second=none, peak_memory_mb=100.0)] * 5
    lacks = replace(proxy("spooky", []), rounds=rounds, medians=medians(rounds))
    assert finding(run(lacks), run(lacks)) is Finding.MISSING
    assert "NOT JUDGED" in compare.lines(judge(run(lacks), run(lacks)), 0.05)[0]


def targeted(rates: list[float], name: str = "small", rate: float = 0.0) -> Document:
    """A run against a server whose CPU time and memory are out of sight."""
    scenario = SCENARIOS[name]
    setup = setup_of(scenario, Options((), rate=rate, target=Target(urlsplit("https://a/"), "::1")))
    rounds = [
        Figures(
            requests_per_second=each,
            mb_per_second=each,
            connections_per_second=each,
            latency_p99_ms=100_000 / each,
        )
        for each in rates
    ]
    measured = replace(proxy("target", []), rounds=rounds, medians=medians(rounds))
    return run(measured, setup=setup)


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("small", "requests_per_second"),
        ("upload", "mb_per_second"),
        ("loss", "mb_per_second"),
        ("handshakes", "connections_per_second"),
    ],
)
def test_a_target_is_judged_by_what_it_does_in_a_second(name: str, figure: str) -> None:
    before = targeted(around(30_000, 1), name)
    (verdict,) = judge(before, targeted(around(3_000, 2), name))
    assert (verdict.figure, verdict.finding) == (figure, Finding.WORSE)
    (verdict,) = judge(before, targeted(around(30_000, 2), name))
    assert verdict.finding is Finding.UNCHANGED


def test_a_target_is_judged_by_its_latency_in_an_open_loop() -> None:
    before = targeted(around(1_000, 1), rate=1000.0)
    found = judge(before, targeted(around(500, 2), rate=1000.0))
    assert [(verdict.figure, verdict.finding) for verdict in found] == [
        ("requests_per_second", Finding.WORSE), ("latency_p99_ms", Finding.WORSE),
    ]  # fmt: skip


def test_the_command_fails_if_something_is_worse_or_is_not_judged(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    target = Target(urlsplit("https://a/"), "::1")
    options = Options((SCENARIOS["small"],), target=target)

    def exit_code(before: Document, after: Document) -> int:
        document.save(replace(before, machine=document.this_machine()), saved)
        comparison = Comparison(saved, options, None)
        comparison.judge(after)
        try:
            comparison.conclude()
        except CommandError as error:
            return error.exit_code
        return 0

    fast, slow, none = (targeted(rates) for rates in ([900.0] * 5, [90.0] * 5, [900.0] * 4))
    none.scenarios[0].proxies[0].rounds.append(Figures())
    assert exit_code(fast, fast) == 0
    assert exit_code(fast, slow) == 3
    assert exit_code(fast, none) == 1
    assert exit_code(none, fast) == 1


def test_a_deal_at_random_agrees_with_all_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    then, now = around(1.0, 1, rounds=7), around(0.99, 2, rounds=7)
    exact = compare.chance(then, now)
    monkeypatch.setattr(compare, "DEALS", 3000)
    assert compare.chance(then, now) == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"connections": 20}, "small: connections was 20, and is 10"),
        ({"seconds": 1.0}, "small: seconds was 1.0, and is 4.0"),
        ({"about": "GET of 2 KiB"}, "small: about was GET of 2 KiB"),
        ({"name": "large"}, "the scenario small was not measured"),
    ],
)
def test_other_parameters_cannot_be_compared(changes: dict[str, Any], said: str) -> None:
    saved = run(proxy("spooky", around(1, 1)), setup=replace(SETUP, **changes))
    with pytest.raises(BenchError, match=said):
        compare.check(saved, MACHINE, "native", [SETUP])


def test_another_machine_or_engine_cannot_be_compared() -> None:
    saved = run(proxy("spooky", around(1, 1)))
    compare.check(saved, MACHINE, "native", [SETUP])
    with pytest.raises(BenchError, match="the cores was 2, and is 64"):
        compare.check(saved, replace(MACHINE, cores=64), "native", [SETUP])
    with pytest.raises(BenchError, match="the engine was native, and is aioquic"):
        compare.check(saved, MACHINE, "aioquic", [SETUP])


def test_too_few_rounds_are_refused() -> None:
    saved = run(proxy("spooky", around(1, 1)))
    compare.check_rounds(saved, 5)
    with pytest.raises(BenchError, match="5 saved rounds against 2 cannot show anything"):
        compare.check_rounds(saved, 2)


def test_a_verdict_is_a_sentence() -> None:
    before = run(proxy("spooky", [100.0] * 5), proxy("envoy", [50.0] * 5))
    after = run(proxy("spooky", [80.0] * 5), proxy("envoy", [50.0] * 5))
    assert compare.lines(judge(before, after), 0.05)[0] == (
        "small: requests_per_cpu_second 100 -> 80, -20.0% relative to envoy: "
        "WORSE, 99.6% sure that it is more than 5%"
    )
