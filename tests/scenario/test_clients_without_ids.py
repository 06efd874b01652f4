"""Clients that use no connection IDs of their own, as browsers do (RFC 9000 section 5.1)."""

from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode

from spooky.protocol.quic import aioquic_session
from spooky.protocol.quic.aioquic_connection import Connection
from spooky.protocol.quic.engines import AIOQUIC, Engine
from spooky.protocol.quic.session import Address, Datagram
from tests.protocol.quic.forge import closed_with, new_connection_id, packet, send
from tests.scenario.endpoints import Scenario
from tests.simnet import CLIENT, Link

ELSEWHERE: Address = ("203.0.113.7", 4433)


@pytest.fixture(autouse=True)
def no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = aioquic_session._configuration

    def without(parameters: Any, *, is_client: bool) -> Any:
        made = configuration(parameters, is_client=is_client)
        made.connection_id_length = 0 if is_client else made.connection_id_length
        return made

    replenish = Connection._replenish_connection_ids

    def few(self: Any) -> None:
        if not self._is_client:
            replenish(self)

    connect = Connection.connect

    def addressed(self: Any, *peer_and_time: Any) -> None:
        # aioquic would choose none for the server either, which no client may.
        self._peer_cid.cid = self._original_destination_connection_id = b"destined"
        connect(self, *peer_and_time)

    monkeypatch.setattr(Connection, "connect", addressed)
    monkeypatch.setattr(aioquic_session, "_configuration", without)
    monkeypatch.setattr(Connection, "_replenish_connection_ids", few)


def begin(engine: Engine, **more: Any) -> Scenario:
    return Scenario((AIOQUIC, engine), **more).handshake()


@pytest.mark.parametrize("seed", range(3))
def test_they_are_served(engine: Engine, seed: int) -> None:
    pair = begin(engine, seed=seed, link=Link(loss=0.05, reorder=0.1), retry=seed == 1)
    client: Any = pair.client
    assert client._quic.host_cid == b""
    pair.download(50_000)


def test_they_may_move(engine: Engine) -> None:
    pair = begin(engine)
    client: Any = pair.client
    for number in range(6):
        pair.network.rebind(pair.client_host, (ELSEWHERE[0], 1000 + number))
        if number % 2:
            client._quic.change_connection_id()
        pair.client.ping()
        pair.download(20_000, seed=number)
        assert pair.server.peer == (ELSEWHERE[0], 1000 + number)
    pair.run(seconds=15)
    pair.download(20_000, seed=9)
    assert not pair.server_handler.closes


def test_who_was_never_there_does_not_take_them_along(engine: Engine) -> None:
    pair = begin(engine, link=Link(latency=0.05))
    pair.run(seconds=1)
    spoofed = packet(pair, b"\x01" + bytes(50))
    pair.server.receive([Datagram(spoofed, ELSEWHERE)], pair.network.now)
    assert pair.server.peer == ELSEWHERE
    pair.run(seconds=15)
    assert pair.server.peer == CLIENT
    pair.download(20_000)


def test_they_may_issue_none(engine: Engine) -> None:
    """RFC 9000 section 19.15."""
    if engine is AIOQUIC:
        pytest.skip("aioquic takes and uses them")
    pair = begin(engine)
    send(pair, new_connection_id(1, 0))
    closed_with(pair, QuicErrorCode.PROTOCOL_VIOLATION)
