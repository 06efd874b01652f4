"""Names in a worker: what is known is used at once, whatever the resolver does."""

import asyncio
import socket

import pytest

from spooky.config import Configuration, from_mapping
from spooky.edge.messages import Resolve, Resolved
from spooky.edge.names import FRESH_SECONDS, AskedNames


class Asked:
    """A worker's names, and the supervisor as the test plays it."""

    def __init__(self) -> None:
        self.time = 100.0
        self.questions: list[Resolve] = []
        self.names = AskedNames(self.questions.append, lambda: self.time)

    async def resolved(self, *addresses: str, error: str = "") -> list[str]:
        """Ask, answer, and return what comes of it."""
        asking = asyncio.ensure_future(self.names.resolve("a.test", 80))
        await asyncio.sleep(0)
        self.names.answered(Resolved("a.test", 80, addresses, error))
        return await asking

    async def at_once(self) -> list[str]:
        async with asyncio.timeout(0.0):
            return await self.names.resolve("a.test", 80)


def test_known_addresses_are_given_at_once_while_a_silent_resolver_is_asked() -> None:
    async def scenario() -> None:
        asked = Asked()
        assert await asked.resolved("10.0.0.1") == ["10.0.0.1"]
        asked.time += FRESH_SECONDS
        assert await asked.at_once() == await asked.at_once() == ["10.0.0.1"]
        assert asked.questions == 2 * [Resolve("a.test", 80)]
        asked.names.answered(Resolved("a.test", 80, ("10.0.0.2",)))
        assert await asked.at_once() == ["10.0.0.2"]
        assert len(asked.questions) == 2

    asyncio.run(scenario())


def test_a_question_without_an_answer_is_asked_again() -> None:
    async def scenario() -> None:
        asked = Asked()
        first = asyncio.ensure_future(asked.names.resolve("a.test", 80))
        await asyncio.sleep(0)
        asked.time += FRESH_SECONDS
        assert await asked.resolved("10.0.0.1") == await first == ["10.0.0.1"]
        assert len(asked.questions) == 2

    asyncio.run(scenario())


def test_a_name_keeps_its_addresses_and_one_that_never_resolved_says_why() -> None:
    async def scenario() -> None:
        asked = Asked()
        with pytest.raises(socket.gaierror, match="no such name"):
            await asked.resolved(error="no such name")
        await asked.resolved("10.0.0.1")
        asked.time += FRESH_SECONDS
        await asked.resolved(error="no such name")
        assert await asked.at_once() == ["10.0.0.1"]

    asyncio.run(scenario())


def leading_to(*hosts: str) -> Configuration:
    """Return a configuration with backends at these hosts."""
    backends = [{"id": host, "address": f"http://{host}:80"} for host in hosts]
    return from_mapping(
        {
            "version": 1,
            "listen": {"tls": {"cert": "c.pem", "key": "k.pem"}},
            "upstream": {"backend": {"route": {"path_prefix": "/"}, "backends": backends}},
        }
    )


def test_a_name_that_leads_to_no_backend_any_more_is_forgotten() -> None:
    async def scenario() -> None:
        asked = Asked()
        for number in range(100):
            asked.names.answered(Resolved(f"b{number}.test", 80, ("10.0.0.9",)))
        assert await asked.resolved("10.0.0.1") == ["10.0.0.1"]
        asked.names.follow(leading_to("a.test", "new.test"))
        assert len(asked.names._known) == 1
        assert await asked.at_once() == ["10.0.0.1"]
        asked.names.follow(leading_to("10.0.0.1"))
        assert await asked.resolved("10.0.0.2") == ["10.0.0.2"]

    asyncio.run(scenario())
