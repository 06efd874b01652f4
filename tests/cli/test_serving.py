"""How a command runs a supervisor."""

import asyncio
import os

from spooky.cli import serving
from spooky.runtime.gentle_threads import NICE


def test_what_a_supervisor_leaves_to_threads_gives_way_to_workers() -> None:
    before = os.nice(0)

    async def serve() -> bool:
        return (
            await asyncio.to_thread(os.nice, 0) == min(before + NICE, 19) and os.nice(0) == before
        )

    assert serving._run(serve())
