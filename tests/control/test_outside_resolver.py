"""No name of a backend leads clients to what this proxy has for operators."""

import asyncio
import logging

import pytest

from spooky.config import from_mapping
from spooky.control.outside_resolver import OutsideResolver


def test_own_sockets_for_operators_are_left_out_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configuration = from_mapping(
        {
            "listen": {"tls": {"cert": "c", "key": "k"}},
            "observability": {"metrics": {"enabled": True, "port": 9100}},
            "upstream": {
                "api": {"route": {"host": "a"}, "backends": [{"id": "a", "address": "a.test"}]}
            },
        }
    )

    async def answer(host: str, port: int) -> list[str]:
        return ["192.0.2.1", "127.0.0.1", "::ffff:127.0.0.1"]

    async def scenario() -> None:
        resolve = OutsideResolver(answer, lambda: configuration)
        for _ in range(2):
            assert await resolve("a.test", 9100) == ["192.0.2.1"]
        assert len(await resolve("a.test", 443)) == 3

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    (said,) = caplog.messages
    assert "127.0.0.1, ::ffff:127.0.0.1 is left out" in said
