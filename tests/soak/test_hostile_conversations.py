"""Half an hour of hostile conversations beside ordinary clients, who are all served."""

import asyncio
import os
import statistics
import time
from pathlib import Path

import pytest
import uvloop

from tests.hostile.siege import besieged
from tests.hostile.test_conversations import DESCRIPTORS_MORE

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
PER_MINUTE = int(os.environ.get("SOAK_CONVERSATIONS", "10000"))
FIRST = int(os.environ.get("SOAK_FIRST", "0"))
"""The number of the first conversation; others find other things."""

BYSTANDERS = 12
REQUESTS_PER_SECOND = 200
WORKERS = 2
IDLE_MS = 20_000

GROWTH_MAX = 1.05
WARM_SHARE = 0.2
"""Of the time, until what fills once is full: the ring of decisions, peers of the last minutes, and
what the allocators keep. Memory is flat from there on."""

SAMPLE_SECONDS = 2.0


@pytest.mark.timeout(60 * MINUTES + 600)
def test_a_crowd_beside_bystanders_hurts_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        pause = 2 * BYSTANDERS / REQUESTS_PER_SECOND
        async with besieged(tmp_path, WORKERS, [pause] * BYSTANDERS, IDLE_MS) as siege:
            await siege.until_calm()
            descriptors, served = siege.descriptors(), siege.served
            cpu_s, load_s = siege.cpu_s(), time.process_time()
            seconds = 60 * MINUTES
            count = round(PER_MINUTE * MINUTES)
            crowd = asyncio.create_task(siege.crowd(FIRST, count, PER_MINUTE / 60, seconds))
            memory: list[int] = []
            while not crowd.done():
                memory.append(siege.memory())
                siege.check()
                await asyncio.wait([crowd], timeout=SAMPLE_SECONDS)
            await crowd
            cpu_s, load_s = siege.cpu_s() - cpu_s, time.process_time() - load_s
            load_s += sum(os.times()[2:4])
            asked = 2 * (siege.served - served)
            steady = memory[round(WARM_SHARE * len(memory)) :]
            quarter = max(1, len(steady) // 4)
            early, late = statistics.mean(steady[:quarter]), statistics.mean(steady[-quarter:])
            print(
                f"\n{siege.begun} of {count} conversations, {asked} requests of bystanders in "
                f"{seconds:.0f} s; memory {early / 2**20:.1f} then {late / 2**20:.1f} MiB; "
                f"{cpu_s:.0f} s of processor time for it, {load_s:.0f} s for its clients; "
                f"{siege.outcomes}"
            )
            siege.check()
            await siege.until_calm()
            await siege.until_forgotten(descriptors + WORKERS * DESCRIPTORS_MORE)
            assert late <= GROWTH_MAX * early
            assert siege.begun >= 0.98 * count, "this machine cannot make so many"
            assert asked >= 0.95 * REQUESTS_PER_SECOND * seconds, "nor serve so many"

    uvloop.run(scenario())
