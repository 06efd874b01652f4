"""Random conversations that are nearly HTTP, at a running proxy: nobody else is hurt by them."""

from collections import Counter
from pathlib import Path

import pytest
import uvloop

from spooky._core import COMPILED
from tests.hostile.conversations import PROTOCOLS, conversation
from tests.hostile.siege import WRONG, UnservedLog, besieged

CONVERSATIONS = 640
SECONDS = 8.0
IDLE_MS = 5_000
DESCRIPTORS_MORE = 4
"""Connections to the backend that are kept, and were not there at first."""

MEMORY_BOUND = 48 << 20
"""Far more than so few may hold, and what a worker's allocator takes at first."""


def test_a_number_is_always_the_same_conversation() -> None:
    assert [conversation(number) for number in range(50)] == list(map(conversation, range(50)))
    said = Counter(conversation(number).protocol for number in range(400))
    assert said.keys() == set(PROTOCOLS)


def test_what_a_healthy_proxy_never_says_is_found() -> None:
    assert WRONG.search("worker 3 died")
    assert WRONG.search("Traceback (most recent call last):")
    assert not WRONG.search("serving HTTP/3, HTTP/2 and HTTP/1.1 on port 1")


def test_why_bystanders_were_not_served_is_read_in_the_access_log(tmp_path: Path) -> None:
    """Across the file that is begun anew while workers still write to the one before."""
    path = tmp_path / "access.log"
    path.touch()
    log = UnservedLog(path)
    lost = '{{"authority":"localhost","status":502,"reason":"upstream_connection_lost","n":{}}}'
    others = '{"authority":"127.0.0.1","reason":"bad_path"}\n'
    served = '{"authority":"localhost","status":200,"reason":"completed"}\n'
    with path.open("a", buffering=1) as before:
        before.write(served + others + lost.format(1) + "\n" + lost.format(2)[:30])
        before.flush()
        log.begin_anew(lambda: None)
        with path.open("a", buffering=1) as after:
            before.write(lost.format(2)[30:] + "\n" + lost.format(3) + "\n")
            after.write(served + lost.format(4) + "\n")
            log.read()
            log.begin_anew(lambda: None)
    path.write_text(lost.format(5) + "\n" + served)
    log.read()
    assert log.lines == [lost.format(n) for n in range(1, 6)]


@pytest.mark.skipif(not COMPILED, reason="the twins see the same conversations session by session")
def test_hostile_conversations_hurt_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with besieged(tmp_path, 1, [0.05] * 3, IDLE_MS) as siege:
            await siege.until_calm()
            descriptors, memory = siege.descriptors(), siege.memory()
            await siege.crowd(0, CONVERSATIONS, CONVERSATIONS / SECONDS, SECONDS)
            siege.check()
            assert siege.begun >= CONVERSATIONS / 10
            # Else nobody was let in, and nothing was shown.
            assert {f"{each} said" for each in ("h1", "h2", "h3")} <= siege.outcomes.keys()
            await siege.until_calm()
            await siege.until_forgotten(descriptors + DESCRIPTORS_MORE)
            assert siege.memory() - memory <= MEMORY_BOUND

    uvloop.run(scenario())
