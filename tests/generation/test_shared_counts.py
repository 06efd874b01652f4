"""Workers choose by what all of them have in flight."""

from collections import Counter

from spooky.observe.counters import Counters
from spooky.observe.segment import create_segment, open_segment
from tests.support.tried import World


def worlds() -> tuple[World, World]:
    """Return what two workers of one machine have."""
    segment, descriptor = create_segment(2)
    segment.commit(1)
    one, other = (
        World(2, balancing="least-request", counters=Counters(open_segment(descriptor), worker))
        for worker in range(2)
    )
    return one, other


def chosen(world: World) -> int:
    """Have a request begin, and return the backend that it goes to."""
    world.request()
    return world.waiting[-1].backend


def test_a_worker_leaves_alone_what_another_keeps_busy() -> None:
    one, other = worlds()
    for number, backend in enumerate(other.upstream.backends):
        for _ in range(200 * (1 - number)):
            assert backend.stage.gate.try_enter(1_000)
    found = Counter(chosen(one) for _ in range(100))
    # As little as where a random draw has nothing to compare.
    assert found[0] < 25


def test_two_workers_share_the_requests_of_both_evenly() -> None:
    one, other = worlds()
    found = Counter(chosen(world) for _ in range(100) for world in (one, other))
    assert abs(found[0] - found[1]) <= 20
    for world in (one, other):
        assert world.upstream.backends[0].stage.gate.active == found[0]
