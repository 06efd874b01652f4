"""Connections that got no answer: each is told of, and a flood fills no log."""

import asyncio

from spooky.control.audit import AuditEvent
from spooky.control.refused_connections import REFUSED_SECONDS, RefusedConnections
from tests.control.test_pipeline_model import StepLoop


def test_a_flood_gets_a_line_a_second_for_each_cause_and_every_connection_is_counted() -> None:
    loop = StepLoop()
    lines: list[AuditEvent] = []

    async def make() -> RefusedConnections:
        return RefusedConnections(lines.append, lambda: 7)

    def told() -> list[tuple[str, str, str]]:
        return [(line.code, line.peer, line.reason) for line in lines]

    def second() -> list[tuple[str, str, str]]:
        lines.clear()
        loop.now += REFUSED_SECONDS
        loop.turn()
        return told()

    refused = asyncio.Task(make(), loop=loop)
    loop.turn()
    connections = refused.result()
    for number in range(5):
        connections.add(f"192.0.2.{number}", "listener_tls", f"cause {number}")
        # What others do hides nobody.
        connections.add("198.51.100.1", "source_ip_not_allowed")
    assert told() == [
        ("listener_tls", "192.0.2.0", "cause 0"), ("source_ip_not_allowed", "198.51.100.1", ""),
    ]  # fmt: skip
    assert (lines[0].action, lines[0].outcome, lines[0].generation) == ("connect", "refused", 7)
    assert second() == [
        ("listener_tls", "192.0.2.4", "4 connections, the last: cause 4"),
        ("source_ip_not_allowed", "198.51.100.1", "4 connections"),
    ]
    # The next second is one too, and the one after a quiet one is the first again.
    connections.add("192.0.2.9", "listener_tls", "cause 9")
    assert second() == [("listener_tls", "192.0.2.9", "cause 9")]
    assert second() == []
    connections.add("192.0.2.8", "listener_tls")
    assert told() == [("listener_tls", "192.0.2.8", "")]
    connections.add("192.0.2.7", "listener_tls")
    lines.clear()
    connections.close()
    assert told() == [("listener_tls", "192.0.2.7", "")]
    assert second() == []
    loop.close()
