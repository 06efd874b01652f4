"""A run: every scenario, in rounds in which the proxies take turns."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult

import msgspec

from spooky.bench import figures
from spooky.bench.backend import backend
from spooky.bench.document import Document, ProxyRun, ScenarioRun, Setup, document
from spooky.bench.histogram import Histogram
from spooky.bench.plan import (
    UNFINISHED,
    Failed,
    Finished,
    LoadPlan,
    LoadResult,
    Progress,
)
from spooky.bench.programs import LOOPBACK, BenchError, Cores, pinned, tell
from spooky.bench.proxies import PEERS, Proxy, Setting, Start, spooky, wait_for_udp
from spooky.bench.relay import RelayPlan
from spooky.bench.scenarios import Scenario

SATURATED: Final = 0.9
"""Share of a core from which on it counts as busy all the time."""

ERRORS_TOLERATED: Final = 0.001
"""Share of failed requests that is not worth a warning."""

NOISY: Final = 0.1
"""Spread of the headline from which on a warning says that the machine was not quiet."""

TARGET: Final = "target"


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be measured.

    Attributes:
        scenarios: In this order.
        against: Names of peers.
        rounds: Turns of each proxy.
        seconds: Length of a turn.
        rate: Requests begun in a second (open loop); 0 for a closed loop.
        workers: Of each proxy.
        target: What to measure instead of a proxy of our own; its address.
    """

    scenarios: tuple[Scenario, ...]
    against: tuple[str, ...] = ()
    rounds: int = 5
    seconds: float = 4.0
    rate: float = 0.0
    workers: int = 1
    target: "Target | None" = None


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is there already.

    Attributes:
        url: What is requested.
        address: IP address of its host.
    """

    url: SplitResult
    address: str

    @property
    def path(self) -> str:
        """Path and query."""
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    @property
    def authority(self) -> str:
        """Host and port as the URL has them."""
        return self.url.netloc.rpartition("@")[2]

    def aimed(self, plan: LoadPlan) -> LoadPlan:
        """Return a plan with this server as its aim, and this path in place of all others."""
        slow = plan.slow
        return msgspec.structs.replace(
            plan,
            host=self.address,
            port=self.url.port or 443,
            server_name=self.url.hostname or "",
            authority=self.authority,
            requests=tuple(
                msgspec.structs.replace(request, path=self.path) for request in plan.requests
            ),
            slow=msgspec.structs.replace(slow, path=self.path) if slow is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a run is.

    Attributes:
        scenario: Its name.
        proxy: Whose turn it is.
        round: From 1.
        turn: Of all scenarios, rounds and proxies, from 1.
        turns: How many there are.
        per_second: Requests or connections, so far.
    """

    scenario: str
    proxy: str
    round: int
    turn: int
    turns: int
    per_second: float


Listener = Callable[[Moment], None]


class Campaign:
    """Runs what the options say.

    Arguments:
        options: What to measure.
        directory: For configurations and logs.
        listener: Hears where the run is.

    Raises:
        BenchError: There are too few cores.
    """

    def __init__(self, options: Options, directory: Path, listener: Listener) -> None:
        self._options = options
        self._directory = directory
        self._listener = listener
        self._cores = Cores(options.workers if options.target is None else 0)
        self._turns = 0
        self._names = [TARGET] if options.target is not None else ["spooky", *options.against]

    def run(self) -> Document:
        """Do it.

        Raises:
            BenchError: A program is missing or fails.
        """
        options = self._options
        sizes = {size for scenario in options.scenarios for size in scenario.sizes}
        with contextlib.ExitStack() as stack:
            backend_port = 0
            if options.target is None:
                backend_port = stack.enter_context(
                    backend(self._directory, sizes, self._cores.load)
                )
            runs = [self._scenario(scenario, backend_port) for scenario in options.scenarios]
        return document(runs)

    def _scenario(self, scenario: Scenario, backend_port: int) -> ScenarioRun:
        options = self._options
        names = self._names
        results: dict[str, list[LoadResult]] = {name: [] for name in names}
        for number in range(options.rounds):
            # Whoever is first changes, so that what a round does to the machine meets everybody.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turn = Turn(scenario, name, number + 1)
                results[name].append(self._turn(turn, backend_port))
        proxies = [summary(scenario, name, results[name]) for name in names]
        setup = setup_of(scenario, options)
        return ScenarioRun(
            setup=setup,
            proxies=proxies,
            ratios={peer.name: ratios(proxies[0], peer) for peer in proxies[1:]},
            warnings=self._warnings(setup, proxies),
        )

    # --- one turn ---------------------------------------------------------------------------------

    def _turn(self, turn: "Turn", backend_port: int) -> LoadResult:
        """Give a proxy, freshly started, its turn: nothing of an earlier one is left in it."""
        self._turns += 1
        target = self._options.target
        plan = self._plan(turn.scenario)
        if target is not None:
            return self._linked(turn, target.aimed(plan))
        with self._proxy(turn.name, backend_port) as proxy:
            plan = msgspec.structs.replace(
                plan,
                port=proxy.port,
                authority=f"{plan.server_name}:{proxy.port}",
                watched=(proxy.program.pid,),
            )
            try:
                return self._linked(turn, plan)
            except BenchError as error:
                words = proxy.program.last_words()
                raise BenchError(f"{turn.name}: {error.message}", error.remedy or words) from error

    def _plan(self, scenario: Scenario) -> LoadPlan:
        options = self._options
        return LoadPlan(
            host=LOOPBACK,
            port=0,
            server_name="localhost",
            authority="localhost",
            kind=scenario.kind,
            connections=scenario.connections,
            streams=scenario.streams,
            requests=scenario.requests,
            seconds=options.seconds,
            rate=options.rate,
            slow=scenario.slow,
        )

    @contextlib.contextmanager
    def _proxy(self, name: str, backend_port: int) -> Iterator[Proxy]:
        start: Start = spooky if name == "spooky" else PEERS[name]
        directory = self._directory / f"{self._turns}-{name}"
        directory.mkdir()
        setting = Setting(directory, backend_port, self._options.workers, self._cores.proxy)
        with start(setting) as proxy:
            wait_for_udp(proxy)
            yield proxy

    def _linked(self, turn: "Turn", plan: LoadPlan) -> LoadResult:
        """Run the load generator, over the scenario's link if it has one."""
        link = turn.scenario.link
        if link is None:
            return self._load(turn, plan)
        # Every proxy of a round meets the same link.
        wanted = RelayPlan(plan.host, plan.port, link, seed=turn.round)
        with pinned([sys.executable, "-m", "spooky.bench.relay"], self._cores.load) as relay:
            assert relay.stdout is not None
            tell(relay, msgspec.json.encode(wanted))
            port = relay.stdout.readline()
            if not port:
                raise BenchError("the relay of the scenario's link did not start")
            return self._load(turn, msgspec.structs.replace(plan, host=LOOPBACK, port=int(port)))

    def _load(self, turn: "Turn", plan: LoadPlan) -> LoadResult:
        """Run the load generator."""
        self._tell(turn, 0.0)
        arguments = [sys.executable, "-m", "spooky.bench.generator"]
        with pinned(arguments, self._cores.load) as process:
            assert process.stdout is not None
            tell(process, msgspec.json.encode(plan))
            for line in process.stdout:
                match msgspec.json.decode(line, type=Progress | Finished | Failed):
                    case Progress(seconds, done):
                        rate = done / seconds if seconds else 0.0
                        self._tell(turn, rate)
                    case Finished(result):
                        return result
                    case Failed(message):
                        raise BenchError(message)
        raise BenchError("the load generator ended without a result")

    def _tell(self, turn: "Turn", per_second: float) -> None:
        options = self._options
        turns = len(options.scenarios) * options.rounds * len(self._names)
        self._listener(
            Moment(turn.scenario.name, turn.name, turn.round, self._turns, turns, per_second)
        )

    # --- what to make of it -----------------------------------------------------------------------

    def _warnings(self, setup: Setup, proxies: Sequence[ProxyRun]) -> list[str]:
        found = []
        if self._cores.shared:
            found.append("workers share a core with the load: compare figures per CPU-second only")
        for proxy in proxies:
            found += warnings_of(setup, proxy)
        return found


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is, in which scenario and round."""

    scenario: Scenario
    name: str
    round: int


def setup_of(scenario: Scenario, options: Options) -> Setup:
    """Return what is measured, as it is saved."""
    target = options.target
    about = scenario.about
    if target is not None:
        about = f"{target.url.geturl()} in place of {about}"
    return Setup(
        name=scenario.name,
        about=about,
        kind=scenario.kind,
        headline=scenario.headline if target is None else scenario.headline.unwatched,
        connections=scenario.connections,
        streams=scenario.streams,
        rate=options.rate,
        seconds=options.seconds,
        workers=options.workers if target is None else 0,
        slow=scenario.slow,
        link=scenario.link,
    )


def summary(scenario: Scenario, name: str, results: Sequence[LoadResult]) -> ProxyRun:
    """Return what all rounds of a proxy showed together."""
    rounds = [figures.figures_of(scenario.kind, result) for result in results]
    latencies = Histogram()
    errors: Counter[str] = Counter()
    workers: Counter[int] = Counter()
    for result in results:
        latencies.add(Histogram.of_buckets(result.latencies))
        errors.update(result.errors)
        if name == "spooky":
            workers.update(result.connections_by_slot)
    return ProxyRun(
        name=name,
        rounds=rounds,
        medians=figures.medians(rounds),
        spread={
            figure: figures.spread(rounds, figure)
            for figure in figures.NAMES
            if figures.values(rounds, figure)
        },
        latencies=latencies.buckets(),
        errors=dict(errors),
        connections_by_worker=dict(sorted(workers.items())),
    )


def ratios(ours: ProxyRun, theirs: ProxyRun) -> dict[str, float]:
    """Return how many times better ours was, by figure."""
    found = {
        name: figures.ratio(ours.medians, theirs.medians, name)
        for name in figures.NAMES
        if name not in ("load_cores", "proxy_cores", "errors")
    }
    return {name: value for name, value in found.items() if value is not None}


def warnings_of(setup: Setup, proxy: ProxyRun) -> list[str]:
    """Say what makes a proxy's figures doubtful."""
    found = []
    medians = proxy.medians
    load, proxy_cores = medians.load_cores or 0.0, medians.proxy_cores
    if load >= SATURATED and (proxy_cores is None or proxy_cores < SATURATED * setup.workers):
        found.append(
            f"{proxy.name}: the load generator was the bottleneck ({load:.0%} of its core): "
            "figures per second are its own, those per CPU-second hold"
        )
    # A stall in one round of many is no less of one, and the median would not tell of it.
    worst = max(figures.values(proxy.rounds, "errors"), default=0.0)
    if worst > ERRORS_TOLERATED:
        what = ", ".join(f"{name} ({count})" for name, count in proxy.errors.items())
        found.append(f"{proxy.name}: {worst:.1%} failed in the worst round; in all: {what}")
    if unfinished := proxy.errors.get(UNFINISHED):
        found.append(
            f"{proxy.name}: {unfinished:,} requests had no answer when their round ended: their "
            "latency counts as what they had waited by then, and was longer"
        )
    spread = proxy.spread.get(setup.headline, 0.0)
    if spread > NOISY:
        found.append(f"{proxy.name}: rounds differ by ±{spread:.0%}: the machine was not quiet")
    return found
