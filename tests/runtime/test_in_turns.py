"""Long work lets the loop turn, and no more often than it has to."""

import asyncio
import itertools
from collections.abc import Generator

from spooky.runtime import Runtime
from spooky.runtime.in_turns import HOLD_SECONDS, in_turns
from tests.support.proxy import run

STEPS = 20


def turns_between(seconds_of_a_step: float) -> list[int]:
    """Return how often the loop had turned before each step of work that takes so long."""
    seen: list[int] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        runtime = Runtime(loop)
        clock, turns = 0.0, 0
        runtime.now = lambda: clock

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        def work() -> Generator[None, None, str]:
            nonlocal clock
            for _ in range(STEPS):
                seen.append(turns)
                clock += seconds_of_a_step
                yield
            return "done"

        turn()
        assert await in_turns(work(), runtime) == "done"
        await runtime.close()

    run(scenario)
    return seen


def test_the_loop_turns_between_steps_that_are_long() -> None:
    seen = turns_between(1.01 * HOLD_SECONDS)
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


def test_steps_that_are_short_share_a_turn() -> None:
    seen = turns_between(HOLD_SECONDS / 3.5)
    assert len(set(seen)) == STEPS // 4
