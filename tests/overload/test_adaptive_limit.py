"""The adaptive limit in front of a server of stated concurrency, in simulated time."""

import random
from collections.abc import Callable

import pytest

from spooky._core.concurrency import Aimd, Gradient
from spooky._core.pure.concurrency import BEFORE, MEASURING, WINDOW
from tests.overload.simulation import Outcome, Server, Simulation, shared_places

MAXIMUM = 1_024
INTERVAL = 60.0
# A measurement may fall into the time; a limit that has collapsed refuses 80 % and more.
SMALL_SHARE = 0.1


def offered(
    server: Server,
    rate: Callable[[float], float],
    until: float,
    change: tuple[float, Callable[[], None]] | None = None,
    workers: int = 1,
) -> Outcome:
    """Offer a rate in multiples of what the server can take at first."""
    capacity = server.capacity
    _, places, words = shared_places()
    policies = [Gradient(words, 4, MAXIMUM, 1.1, INTERVAL) for _ in range(workers)]
    simulation = Simulation(policies, places, server)
    if change is not None:
        simulation.at(*change)
    return simulation.run(lambda now: capacity * rate(now), until)


def five_times_from_5_to_15(now: float) -> float:
    return 5.0 if 5.0 <= now < 15.0 else 0.5


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("concurrency", "seconds"), [(5, 0.01), (20, 0.02), (100, 0.1)])
def test_under_five_times_the_capacity_goodput_is_that_of_the_peak_and_latency_bounded(
    concurrency: int, seconds: float, workers: int
) -> None:
    server = Server(concurrency, seconds)
    outcome = offered(server, five_times_from_5_to_15, 17.0, workers=workers)
    assert outcome.goodput(5.0, 15.0) >= 0.9 * server.capacity
    assert outcome.latency(99, 7.0, 15.0) <= 3 * seconds
    assert concurrency <= outcome.limit(8.0, 15.0) <= 1.25 * concurrency + 5
    # It recovers at once: half the capacity is offered, and nothing is refused any more.
    assert not [at for at in outcome.refused if at >= 15.5]
    assert outcome.goodput(15.5, 17.0) >= 0.4 * server.capacity


@pytest.mark.parametrize("size", [2, 8, 12])
def test_after_an_overload_requests_that_come_in_bursts_are_taken_again(size: int) -> None:
    """As from clients of a machine that pauses: of half the capacity, up to three times as many at
    once as are served at once."""
    server = Server(4, 0.04)
    _, places, words = shared_places()
    simulation = Simulation([Gradient(words, 4, MAXIMUM, 1.1, INTERVAL)], places, server)

    def burst() -> None:
        for _ in range(size):
            simulation.ask()
        simulation.at(simulation.now + size / (0.5 * server.capacity), burst)

    simulation.at(15.0, burst)
    rate = server.capacity
    outcome = simulation.run(lambda now: 5 * rate if now < 15.0 else 0.01, 60.0)
    assert [at for at in outcome.refused if at < 15.0]
    assert not [at for at in outcome.refused if at >= 25.0]
    assert outcome.goodput(25.0, 60.0) >= 0.49 * rate


def test_a_start_in_the_midst_of_an_overload_finds_the_minimum_all_the_same() -> None:
    server = Server(20, 0.02)
    outcome = offered(server, lambda _: 5.0, 6.0)
    assert outcome.latency(99, 3.0, 6.0) <= 3 * server.seconds
    assert outcome.goodput(1.0, 6.0) >= 0.9 * server.capacity


def test_a_server_that_gets_slower_for_good_is_given_its_concurrency_again() -> None:
    server = Server(20, 0.02)
    outcome = offered(
        server, lambda _: 2.0, 20.0, change=(8.0, lambda: setattr(server, "seconds", 0.04))
    )
    assert outcome.goodput(12.0, 20.0) >= 0.9 * server.capacity
    assert outcome.limit(12.0, 20.0) == pytest.approx(28, abs=5)


@pytest.mark.parametrize("concurrency", [10, 40])
def test_the_limit_follows_what_the_server_can_take(concurrency: int) -> None:
    server = Server(20, 0.02)
    outcome = offered(
        server,
        lambda _: 4.0,
        12.0,
        change=(6.0, lambda: setattr(server, "concurrency", concurrency)),
    )
    assert outcome.goodput(8.0, 12.0) >= 0.9 * server.capacity
    assert concurrency <= outcome.limit(8.0, 12.0) <= 1.25 * concurrency + 5


def test_nothing_is_refused_below_the_capacity() -> None:
    outcome = offered(Server(20, 0.02, spread=0.5), lambda _: 0.7, 30.0)
    assert not outcome.refused


# --- servers where nothing ever waits ---------------------------------------------------------
def refused_share(
    server: Server, rate: float, seed: int, change: tuple[float, Callable[[], None]] | None = None
) -> float:
    """Return the share of requests that is refused in the last half of a minute."""
    _, places, words = shared_places()
    simulation = Simulation([Gradient(words, 4, MAXIMUM, 1.1, INTERVAL)], places, server, seed)
    if change is not None:
        simulation.at(*change)
    outcome = simulation.run(lambda _: rate, 60.0)
    refused = sum(at >= 30.0 for at in outcome.refused)
    return refused / (refused + sum(at >= 30.0 for at, _ in outcome.done))


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1.0)


def lognormal(chance: random.Random) -> float:
    return chance.lognormvariate(0.0, 1.2)


@pytest.mark.parametrize(
    ("rate", "seconds", "skew", "seed"),
    [
        (1_000.0, 0.2, exponential, 1),
        (1_000.0, 0.2, exponential, 2),
        (500.0, 0.03, lognormal, 4),
    ],
)
def test_latencies_that_vary_much_are_not_taken_for_a_queue_for_good(
    rate: float, seconds: float, skew: Callable[[random.Random], float], seed: int
) -> None:
    assert refused_share(Server(10_000, seconds, skew=skew), rate, seed) <= SMALL_SHARE


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_gets_a_hundred_times_slower_without_a_queue_is_not_given_up(
    seed: int,
) -> None:
    server = Server(10_000, 0.005, spread=0.2)
    slower = (10.0, lambda: setattr(server, "seconds", 0.5))
    assert refused_share(server, 400.0, seed, slower) <= SMALL_SHARE


def test_the_minimum_is_measured_again_and_costs_little() -> None:
    server = Server(20, 0.02)
    outcome = offered(server, lambda _: 5.0, 150.0)
    dips = [at for at, limit in outcome.limits if limit < 12 and at > 5.0]
    starts = [at for at, before in zip(dips[1:], dips, strict=False) if at - before > 1.0]
    assert len(starts) + 1 in (2, 3)
    assert dips[-1] - dips[0] > INTERVAL * 0.8
    assert outcome.goodput(5.0, 150.0) >= 0.97 * server.capacity


def test_the_limit_of_aimd_keeps_latency_about_what_is_too_high() -> None:
    server = Server(20, 0.02)
    _, places, words = shared_places()
    simulation = Simulation([Aimd(words, 4, MAXIMUM, 1, 4, 0.1)], places, server)
    outcome = simulation.run(lambda _: 5 * server.capacity, 10.0)
    assert outcome.goodput(2.0, 10.0) >= 0.9 * server.capacity
    assert outcome.latency(99, 2.0, 10.0) <= 0.25


def test_a_worker_that_saw_the_window_before_it_was_said_to_measure_measures_all_the_same() -> None:
    _, _, words = shared_places()
    policy = Gradient(words, 4, MAXIMUM, 1.1, INTERVAL)
    for step in range(100):
        policy.observe(1.0 + step / 100, 0.01)
    assert policy.minimum == pytest.approx(0.01, rel=0.01)
    # Another worker begins a window, this one follows, and only then it is a measurement.
    words.store(WINDOW, 3_000_000)
    policy.observe(3.0, -1.0)
    words.store(BEFORE, 64 * 256)
    words.store(MEASURING, 1)
    # Too few come in the longest time that a measurement takes.
    policy.observe(3.5, 0.01)
    assert words.load(MEASURING) == 0
    assert words.load(WINDOW) == 3_500_000
    assert policy.limit() == 64


def test_nor_does_one_measure_that_saw_the_next_before_a_measurement_was_over() -> None:
    _, _, words = shared_places()
    policy = Gradient(words, 4, MAXIMUM, 1.1, INTERVAL)
    for step in range(100):
        policy.observe(1.0 + step / 100, 0.01)
    words.store(MEASURING, 1)
    words.store(WINDOW, 3_000_000)
    policy.observe(3.0, -1.0)
    words.store(MEASURING, 0)
    policy.observe(3.5, 0.01)
    # A window like others: it waits for enough requests.
    assert words.load(WINDOW) == 3_000_000
