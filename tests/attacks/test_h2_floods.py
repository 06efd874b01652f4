"""Floods of HTTP/2 (rows 1 to 9) against a running proxy, and against a session without limits."""

from collections.abc import Iterable

import pytest

from spooky._core import COMPILED, reasons
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from tests.attacks.floods_h2 import (
    BOMB_FIELD,
    ENHANCE_YOUR_CALM,
    FLOODS,
    GET,
    POST,
    PROTOCOL_ERROR,
    no_credit,
    stream,
)
from tests.attacks.ground import MIB, Ground
from tests.attacks.wires import H2Wire
from tests.protocol.h2.peers import RawPeer, ServerEnd, raw_client, raw_frame, settings
from tests.support.proxy import run

ENGINE = "ngh2" if COMPILED else "h2"


OTHERWISE_IN_H2 = {
    "malformed heads": "h2 leaves them to the validator, which answers 400",
    "empty CONTINUATION": "h2 has a limit of its own besides ours",
}


def skip_what_the_engine_lacks(name: str) -> None:
    if ENGINE == "h2" and name in OTHERWISE_IN_H2:
        pytest.skip(OTHERWISE_IN_H2[name])


def in_rows(names: Iterable[str]) -> pytest.MarkDecorator:
    """Have a test for each of these floods, with the row of the matrix it is of."""
    floods = [pytest.param(name, id=f"row {FLOODS[name].row}: {name}") for name in names]
    return pytest.mark.parametrize("name", floods)


@in_rows(FLOODS)
def test_a_flood_ends_its_connection_and_nothing_else(proxy: Ground, name: str) -> None:
    flood = FLOODS[name]

    async def scenario() -> None:
        async with proxy.siege() as siege:
            wire = await H2Wire.open(proxy.port)
            await wire.send(flood.first(wire))
            await wire.flood(flood.make, flood.most)
            await wire.until_closed()
            assert wire.code in flood.codes
            assert siege.memory < 16 * MIB
            await wire.close()

    run(scenario)


def repeat(name: str, limits: Limits) -> tuple[ServerEnd, int]:
    """Say a flood to a session; return it, and how much of it it took."""
    flood = FLOODS[name]
    end = ServerEnd(ENGINE, limits=limits)
    peer = raw_client(end)
    peer.send(flood.first(peer))
    for count in range(1, flood.most + 1):
        peer.send(flood.make(peer, count))
        peer.take()
        if end.session.closed:
            return end, count
    return end, flood.most


@in_rows(name for name, flood in FLOODS.items() if flood.limits)
def test_without_its_limit_a_flood_is_taken(name: str) -> None:
    """So it is this limit that the test above sees, and nothing that happens to be near."""
    skip_what_the_engine_lacks(name)
    flood = FLOODS[name]
    stopped, _ = repeat(name, DEFAULT_LIMITS)
    assert stopped.session.close_reason is reasons.CLIENT_EXCESSIVE_LOAD
    assert flood.limits is not None
    taken, count = repeat(name, flood.limits)
    assert not taken.session.closed
    assert count == flood.most


def test_a_window_that_grows_by_nothing_ends_the_connection(proxy: Ground) -> None:
    """Row 2: it provokes no resets, as the first is an error of the connection."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await H2Wire.open(proxy.port)
            await wire.send(no_credit(wire, 1))
            await wire.until_closed()
            assert wire.code == PROTOCOL_ERROR
            assert not wire.resets
            await wire.close()

    run(scenario)


def bomb(speaker: RawPeer | H2Wire, stream_id: int) -> bytes:
    """Return a head of 64 MB in 16 KB (row 4)."""
    first = speaker.headers(stream_id, [*GET, BOMB_FIELD], end=True)
    index = speaker.encoder.encode([BOMB_FIELD])
    assert len(index) == 1
    block = speaker.encoder.encode(GET) + index * 16_000
    return first + raw_frame(1, 5, stream_id + 2, block)


def test_a_bomb_of_references_is_not_unpacked(proxy: Ground) -> None:
    """Row 4, in each of twenty connections at once."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            wires = [await H2Wire.open(proxy.port) for _ in range(20)]
            for wire in wires:
                await wire.send(bomb(wire, 1))
            for wire in wires:
                await wire.until_closed()
                assert wire.code == ENHANCE_YOUR_CALM
                await wire.close()
            assert siege.memory < 16 * MIB

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="h2 has a limit of its own besides ours")
def test_without_limits_a_bomb_is_unpacked() -> None:
    def close_reason(limits: Limits) -> object:
        end = ServerEnd(ENGINE, limits=limits)
        peer = raw_client(end)
        peer.send(bomb(peer, 1))
        return end.session.close_reason

    assert close_reason(DEFAULT_LIMITS) is reasons.CLIENT_EXCESSIVE_LOAD
    assert close_reason(Limits(max_headers_count=10**5, max_headers_bytes=10**8)) is None


def test_the_table_of_our_encoder_is_not_the_peers_to_choose(proxy: Ground) -> None:
    """Row 6: tables that grow and shrink, with requests between."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await H2Wire.open(proxy.port)
            for count in range(40):
                await wire.send(settings({1: 0 if count % 2 else 2**31}))
                await wire.send(wire.headers(stream(count), GET, end=True))
            await wire.until(lambda: len(wire.statuses) == 40)
            assert set(wire.statuses.values()) == {b"200"}
            assert wire.code is None
            await wire.close()

    run(scenario)


def test_more_streams_than_advertised_are_refused(proxy: Ground) -> None:
    """Row 9."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await H2Wire.open(proxy.port)
            for count in range(150):
                await wire.send(wire.headers(stream(count), POST))
            await wire.until(lambda: wire.closed.is_set() or len(wire.resets) >= 50)
            assert await proxy.counted("requests_active") <= 100 + 3
            await wire.close()

    run(scenario)
