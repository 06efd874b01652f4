"""Requests in 0-RTT data: taken where that is safe, marked, and never twice (RFC 8470)."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spooky import _core
from spooky._core import reasons
from spooky.edge.early_packets import (
    EARLY_MAX,
    EARLY_MAX_PER_CONNECTION,
    EARLY_SECONDS,
    EarlyPackets,
)
from spooky.protocol.quic.packet import PacketType, parse_header
from spooky.protocol.quic.session import ReceivedDatagram
from tests.edge.test_ingress import counted, run_with
from tests.support.early import EarlyClient, early_field, ticket_from
from tests.support.proxy import Setup

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")


def allow(**protocol: Any) -> Callable[[dict[str, Any]], None]:
    """Return what turns 0-RTT on in a configuration."""

    def change(settings: dict[str, Any]) -> None:
        settings["resilience"] = {"protocol": {"allow_0rtt": True} | protocol}

    return change


def test_a_request_is_answered_before_the_handshake_ends_and_is_marked(tmp_path: Path) -> None:
    """RFC 8470 section 5.1."""

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            stream = client.request("GET", "/inspect")
            client.send(*client.pending())
            # Not a word of the client's after its first flight.
            status, inspected = await client.response(stream, answering=False)
            assert (status, client.taken) == (200, True)
            assert early_field(inspected) == ["1"]
            assert counted(setup.proxy, "early_data_total") == 0, "the handshake has ended"
            client.send(*client.pending())
            _, inspected = await client.fetch("GET", "/inspect")
            assert early_field(inspected) == []
        assert counted(setup.proxy, "early_data_total", outcome="accepted") == 1
        assert counted(setup.proxy, "early_data_total", outcome="refused") == 0

    run_with(tmp_path, scenario, change=allow())


def test_the_access_log_tells_which_requests_came_early(tmp_path: Path) -> None:
    log = tmp_path / "access.log"

    def change(settings: dict[str, Any]) -> None:
        allow()(settings)
        settings["access_log"] = {"enabled": True, "format": "json", "path": str(log)}

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            streams = [client.request(method, "/status/204") for method in ("GET", "POST")]
            client.send(*client.pending())
            statuses = [(await client.response(stream))[0] for stream in streams]
            statuses.append((await client.fetch("GET", "/size/1"))[0])
            assert statuses == [204, 425, 200]

    run_with(tmp_path, scenario, change=change)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {(line["status"], line["early_data"]) for line in lines} == {
        (204, True), (425, True), (200, False),
    }  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_another_method_is_too_early_and_no_backend_hears_of_it(
    tmp_path: Path, method: str
) -> None:
    """RFC 8470 section 5.2: the client tries again once the handshake is complete."""

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            stream = client.request(method, "/count")
            client.send(*client.pending())
            status, body = await client.response(stream, answering=False)
            assert (status, body) == (425, reasons.TOO_EARLY.text.encode() + b"\n")
            assert setup.origin.gate.requests["/count"] == 0
            client.send(*client.pending())
            status, _ = await client.fetch(method, "/count")
            assert status == 200
        assert counted(setup.proxy, "requests_total", reason=reasons.TOO_EARLY.code) == 1

    run_with(tmp_path, scenario, change=allow())


def test_methods_that_are_not_listed_are_too_early(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            streams = [client.request(method, "/status/204") for method in ("GET", "HEAD")]
            client.send(*client.pending())
            statuses = [(await client.response(stream))[0] for stream in streams]
            assert statuses == [425, 204]

    run_with(tmp_path, scenario, change=allow(early_data_safe_methods=["HEAD"]))


def test_a_field_of_the_clients_passes_and_cannot_hide_that_it_was_early(tmp_path: Path) -> None:
    """RFC 8470 section 5.1: it may be an intermediary; whatever it says is taken for 1."""

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            stream = client.request("GET", "/inspect", [(b"early-data", b"0")] * 2)
            client.send(*client.pending())
            _, inspected = await client.response(stream)
            assert early_field(inspected) == ["1"]
            _, inspected = await client.fetch("GET", "/inspect", [(b"early-data", b"1")])
            assert early_field(inspected) == ["1"]

    run_with(tmp_path, scenario, change=allow())


def test_a_backend_that_says_too_early_is_heard(tmp_path: Path) -> None:
    """RFC 8470 section 5.2: 425 goes to the client, and nothing is tried again here."""

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            stream = client.request("GET", "/status/425")
            client.send(*client.pending())
            assert (await client.response(stream))[0] == 425
        assert setup.origin.gate.requests["/status/425"] == 1

    run_with(tmp_path, scenario, change=allow())


def test_a_request_that_overtook_its_hello_is_answered(tmp_path: Path) -> None:
    """RFC 9000 section 5.2.2."""

    async def scenario(setup: Setup) -> None:
        with EarlyClient(setup.proxy.port, await ticket_from(setup.proxy.port)) as client:
            initial = client.pending()
            stream = client.request("GET", "/inspect", [(b"padding", b"x" * 900)])
            early = client.pending()
            kinds = [parse_header(datagram).type for datagram in early]  # type: ignore[union-attr]
            assert {*kinds} == {PacketType.ZERO_RTT}
            client.send(*early)
            # It is there, and no connection is.
            await setup.client()
            client.send(*initial)
            status, inspected = await client.response(stream, answering=False)
            assert (status, early_field(inspected)) == (200, ["1"])

    run_with(tmp_path, scenario, change=allow())


def test_what_was_recorded_does_nothing_when_it_is_sent_again(tmp_path: Path) -> None:
    """RFC 8446 section 8: while the connection is there, and after it."""

    async def scenario(setup: Setup) -> None:
        port = setup.proxy.port
        ticket = await ticket_from(port)
        with EarlyClient(port, ticket) as client, EarlyClient(port) as thief:
            stream = client.request("GET", "/inspect")
            recorded = client.pending()
            client.send(*recorded)
            await client.response(stream)
            thief.send(*recorded)
            await client.fetch("GET", "/echo")
            client.quic.close()
            client.send(*client.pending())
            while counted(setup.proxy, "connections_active", transport="quic"):
                await (await setup.client("h1")).fetch("GET", "/echo")
            thief.send(*recorded)
            await (await setup.client()).fetch("GET", "/echo")
        assert setup.origin.gate.requests["/inspect"] == 1

    run_with(tmp_path, scenario, change=allow())


def test_a_ticket_serves_once_and_the_request_is_sent_again(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        ticket = await ticket_from(setup.proxy.port)
        found = []
        for _ in range(3):
            with EarlyClient(setup.proxy.port, ticket) as client:
                _, inspected = await client.fetch("GET", "/inspect")
                found.append((client.taken, early_field(inspected)))
        assert found == [(True, ["1"]), (False, []), (False, [])]
        assert counted(setup.proxy, "early_data_total", outcome="refused") == 2

    run_with(tmp_path, scenario, change=allow())


def test_it_is_off_unless_it_is_allowed(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        ticket = await ticket_from(setup.proxy.port)
        assert ticket.max_early_data_size is None
        bold = dataclasses.replace(ticket, max_early_data_size=0xFFFFFFFF)
        with EarlyClient(setup.proxy.port, bold) as client:
            _, inspected = await client.fetch("GET", "/inspect")
            assert (client.taken, early_field(inspected)) == (False, [])

    run_with(tmp_path, scenario)


def datagram(number: int) -> ReceivedDatagram:
    return bytes([number % 256]) * 100, ("192.0.2.1", 5), 0


class TestEarlyPackets:
    def test_they_come_in_order_and_once(self) -> None:
        early = EarlyPackets()
        assert all(early.keep(b"one", datagram(n), 0.0) for n in range(3))
        assert early.keep(b"two", datagram(9), 0.0)
        assert early.claim(b"one") == [datagram(n) for n in range(3)]
        assert early.claim(b"one") == []
        assert len(early) == 1

    def test_no_client_takes_all_the_room(self) -> None:
        early = EarlyPackets()
        kept = [early.keep(b"one", datagram(n), 0.0) for n in range(EARLY_MAX_PER_CONNECTION + 1)]
        assert kept == [True] * EARLY_MAX_PER_CONNECTION + [False]

    def test_all_together_are_bounded_and_old_ones_give_way(self) -> None:
        early = EarlyPackets()
        ids = [n.to_bytes(8, "big") for n in range(EARLY_MAX + 1)]
        kept = [early.keep(each, datagram(0), 0.0) for each in ids]
        assert kept == [True] * EARLY_MAX + [False]
        assert not early.keep(b"late", datagram(0), EARLY_SECONDS - 0.1)
        assert early.keep(b"late", datagram(0), EARLY_SECONDS)
        assert len(early) == 1
        assert early.claim(ids[0]) == []
