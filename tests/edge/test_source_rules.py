"""Rules for new connections by where they come from (attack 13)."""

import asyncio
import ipaddress
import random
from pathlib import Path
from typing import Any

import pytest

from spooky._core import reasons
from spooky.config.source_rules import parse_source_rule
from spooky.edge.source_rules import SourceRules
from tests.edge.test_ingress import run_with
from tests.edge.test_stateless import RawClient, refused, retried, wire
from tests.support.proxy import Setup
from tests.support.tls import plain_context
from tests.support.waiting import until

DENIED, SUSPECT, FRIEND = "127.0.0.66", "127.0.0.77", "127.0.0.78"


def rules(*texts: str) -> SourceRules:
    return SourceRules(map(parse_source_rule, texts))


def test_the_first_rule_that_matches_holds() -> None:
    found = rules(
        "allow 192.0.2.1", "drop 192.0.2.0/24", "retry 192.0.0.0/16", "drop 2001:db8::/32"
    )
    assert found.action("192.0.2.1") == "allow"
    assert found.action("192.0.2.2") == "drop"
    assert found.action("192.0.3.1") == "retry"
    assert found.action("198.51.100.1") is None
    assert found.action("2001:db8:1::1") == "drop"
    assert found.action("fe80::1%eth0") is None
    assert found.action("::ffff:192.0.2.2") == "drop", "as a listener on :: sees IPv4"
    assert rules("drop 192.0.0.0/8", "allow 192.0.2.1").action("192.0.2.1") == "drop"


def test_rules_for_mapped_addresses_are_for_ipv4() -> None:
    found = rules("drop ::ffff:192.0.2.0/120")
    assert found.action("192.0.2.7") == found.action("::ffff:192.0.2.7") == "drop"
    assert found.action("192.0.3.7") is found.action("2001:db8::7") is None


def test_look_ups_agree_with_going_through_the_rules_one_by_one() -> None:
    source = random.Random(13)
    networks = [
        ipaddress.ip_network((source.getrandbits(32), source.randrange(0, 33)), strict=False)
        for _ in range(2_000)
    ]
    texts = [f"{source.choice(('allow', 'drop', 'retry'))} {each}" for each in networks]
    texts = [text for text in texts if not text.endswith(("/0", "/1", "/2", "/3"))]
    parsed = list(map(parse_source_rule, texts))
    found = SourceRules(parsed)
    for _ in range(500):
        address = ipaddress.IPv4Address(source.getrandbits(32))
        expected = next((action for action, network in parsed if address in network), None)
        assert found.action(str(address)) == expected


def test_who_is_dropped_gets_no_answer_and_takes_no_place(tmp_path: Path) -> None:
    """On UDP and on TCP; others are served, and what is changed holds from then on."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port, DENIED) as on, wire(setup.proxy.port) as other:
            on.send(*RawClient().begin(on), b"\x40" + b"\0nobody!" + bytes(100))
            await until(lambda: refused(setup, reasons.SOURCE_DROPPED) == 2)
            assert await on.is_silent()
            with pytest.raises(ConnectionError):
                await asyncio.open_connection(
                    "127.0.0.1", setup.proxy.port, ssl=plain_context("h2"), local_addr=(DENIED, 0)
                )
            assert refused(setup, reasons.SOURCE_DROPPED) == 3
            assert setup.proxy.worker.quic_cap.active == setup.proxy.worker.tcp_cap.active == 0
            client = RawClient()
            await client.handshake(other, client.begin(other))

    run_with(tmp_path, scenario, source_rules=[f"drop {DENIED}"])


def test_who_is_suspect_proves_its_address_and_a_friend_never_has_to(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port, SUSPECT) as on:
            client = RawClient()
            await client.handshake(on, await retried(client, on))
        assert refused(setup, reasons.ADDRESS_UNPROVEN) == 1

    run_with(tmp_path, scenario, source_rules=[f"retry {SUSPECT}"])

    async def friendly(setup: Setup) -> None:
        with wire(setup.proxy.port, FRIEND) as on:
            client = RawClient()
            await client.handshake(on, client.begin(on))
            assert client.quic._retry_count == 0
        with wire(setup.proxy.port) as on:
            client = RawClient()
            await client.handshake(on, await retried(client, on))

    run_with(tmp_path, friendly, source_rules=[f"allow {FRIEND}"], quic_retry="always")


def test_rules_change_live_and_connections_there_are_stay(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = []

    async def scenario(setup: Setup) -> None:
        (settings,) = given
        client = await setup.client("h2")
        with wire(setup.proxy.port) as on:
            first = RawClient()
            await first.handshake(on, first.begin(on))
        settings["performance"]["source_rules"] = ["drop 127.0.0.1"]
        await setup.proxy.apply(settings)
        with wire(setup.proxy.port) as on:
            on.send(*RawClient().begin(on))
            assert await on.is_silent()
        assert (await client.fetch("GET", "/size/5")).status == 200
        settings["performance"]["source_rules"] = []
        await setup.proxy.apply(settings)
        with wire(setup.proxy.port) as on:
            last = RawClient()
            await last.handshake(on, last.begin(on))

    run_with(tmp_path, scenario, change=given.append)
