"""A crowd of hostile clients, in a process of its own: conversations at a rate, by their numbers.

``python -m tests.hostile PORT --first NUMBER --count COUNT --rate PER_SECOND`` says what they came
to, as JSON. ``--count 1`` says one again.
"""

import argparse
import asyncio
import json
import time
from collections import Counter

import uvloop

from tests.hostile.conversations import Conversation, conversation
from tests.hostile.speakers import speak

AT_ONCE_MAX = 400
"""Conversations under way; more would only measure this process."""

HOSTS = 200
"""Addresses that they come from."""


def host_of(number: int) -> str:
    """Return the address that a conversation comes from."""
    return f"127.2.0.{number % HOSTS + 1}"


class Crowd:
    """Conversations under way.

    Attributes:
        outcomes: How many came to what, by protocol.
        failures: Numbers of those that found no proxy, with why.
    """

    def __init__(self, port: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.failures: list[tuple[int, str]] = []
        self._port = port
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    async def run(self, first: int, count: int, rate: float, until: float) -> int:
        """Begin conversations at a rate; return how many began.

        Arguments:
            until: When to begin no more, on the monotonic clock.
        """
        begun = 0
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + count):
                await asyncio.sleep(start + begun / rate - time.monotonic())
                await self._room.acquire()
                if time.monotonic() >= until:
                    break
                group.create_task(self._one(conversation(number)))
                begun += 1
        return begun

    async def _one(self, one: Conversation) -> None:
        try:
            outcome = await speak(one, self._port, host_of(one.number))
            self.outcomes[f"{one.protocol} {outcome}"] += 1
        except (TimeoutError, OSError) as error:
            self.failures.append((one.number, repr(error)))
        finally:
            self._room.release()


def main() -> None:
    """Hold the conversations."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    crowd = Crowd(options.port)
    until = time.monotonic() + options.seconds
    begun = uvloop.run(crowd.run(options.first, options.count, options.rate, until))
    print(json.dumps({"begun": begun, "outcomes": crowd.outcomes, "failures": crowd.failures}))


if __name__ == "__main__":
    main()
