"""Long work on the loop, cut into slices: what clients wait for goes on in between."""

import asyncio
from collections.abc import Generator
from typing import Final, TypeVar

from spooky.runtime.runtime import Runtime

HOLD_SECONDS: Final = 0.000_25
"""How long work holds the loop at a time. A request takes several turns, and waits in each; to turn
costs a twentieth of this."""

Result = TypeVar("Result")


def at_once(steps: Generator[None, None, Result]) -> Result:
    """Take all steps now, and return what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


async def in_turns(steps: Generator[None, None, Result], runtime: Runtime) -> Result:
    """Take steps that are short each, but let the loop turn every :data:`HOLD_SECONDS`.

    Arguments:
        steps: The work; whoever cancels it closes them.
        runtime: Its clock says how long the loop is held.

    Returns:
        What they come to.
    """
    now = runtime.now
    began = now()
    try:
        while True:
            next(steps)
            if now() - began > HOLD_SECONDS:
                await asyncio.sleep(0)
                began = now()
    except StopIteration as end:
        result: Result = end.value
        return result
