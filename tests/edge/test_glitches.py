"""One account of a client's oddities: GOAWAY at three quarters, a close at the whole."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from h2.exceptions import ProtocolError

from spooky._core import reasons
from spooky.config.glitches import Glitches
from spooky.edge.glitches import BROKEN_WEIGHT, GlitchAccount, GlitchBook, Verdict
from spooky.observe.counters import Counters
from spooky.overload.manager import Measures
from tests.edge.test_ingress import counted, run_with
from tests.support.client import Http2Client, Http3Client
from tests.support.proxy import Setup

BUDGET = 40
POLICY = Glitches(BUDGET, 1, None, 1, 0)


class Books:
    """A book, and what it goes by."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.measures = Measures()
        self.book = GlitchBook(self.counters, self.measures, "tcp")

    def account(self, policy: Glitches = POLICY, address: str = "192.0.2.1") -> GlitchAccount:
        return GlitchAccount(self.book, policy, address)


def verdicts(account: GlitchAccount, totals: list[int], now: float = 10.0) -> list[Verdict]:
    return [account.see(total, now) for total in totals]


def test_three_quarters_end_it_kindly_and_the_whole_at_once() -> None:
    account = Books().account()
    assert verdicts(account, [29, 30, 31, 39, 40, 41]) == [
        Verdict.NOTHING, Verdict.GOAWAY, Verdict.NOTHING, Verdict.NOTHING, Verdict.CLOSE,
        Verdict.NOTHING,
    ]  # fmt: skip
    assert verdicts(Books().account(), [100]) == [Verdict.CLOSE]


def test_oddities_are_forgotten_with_time() -> None:
    account = Books().account()
    for second in range(1, 200):
        assert account.see(second, float(second)) is Verdict.NOTHING
    assert account.see(229, 200.0) is Verdict.GOAWAY


def test_a_source_has_one_account_for_all_its_connections() -> None:
    """Of all workers, with IPv6 by the prefix, and in a table that does not grow."""
    books = Books()
    policy = Glitches(None, 1, BUDGET, 1, 0)
    prefix = [books.account(policy, f"2001:db8::{number:x}") for number in range(4)]
    assert [verdicts(each, [10]) for each in prefix] == [
        [Verdict.NOTHING], [Verdict.NOTHING], [Verdict.NOTHING], [Verdict.GOAWAY]
    ]  # fmt: skip
    assert verdicts(prefix[0], [11]) == [Verdict.CLOSE]
    assert verdicts(books.account(policy, "2001:db8:0:1::1"), [10]) == [Verdict.NOTHING]
    shared = GlitchAccount(books.book, policy, "192.0.2.1", is_shared=True)
    assert verdicts(shared, [1_000]) == [Verdict.NOTHING], "a trusted proxy is many clients"


def test_connections_that_broke_the_protocol_count_for_their_source() -> None:
    books = Books()
    policy = Glitches(None, 1, BUDGET, 1, 0)
    for _ in range(BUDGET // BROKEN_WEIGHT):
        books.account(policy).ended(reasons.CLIENT_PROTOCOL_ERROR, 10.0)
    books.account(policy, "192.0.2.2").ended(reasons.COMPLETED, 10.0)
    assert verdicts(books.account(policy), [1]) == [Verdict.CLOSE]
    assert verdicts(books.account(policy, "192.0.2.2"), [1]) == [Verdict.NOTHING]


def test_without_pressure_accounts_have_no_consequences() -> None:
    books = Books()
    policy = Glitches(BUDGET, 1, BUDGET, 1, 50)
    account = books.account(policy)
    assert verdicts(account, [1_000]) == [Verdict.NOTHING]
    books.measures.lag_pressure = 0.5
    assert verdicts(account, [1_001]) == [Verdict.CLOSE]
    books.measures.lag_pressure = 0.0
    other = books.account(policy, "192.0.2.2")
    assert verdicts(other, [1_000]) == [Verdict.NOTHING]
    books.measures.acts = True
    assert verdicts(other, [1_001]) == [Verdict.CLOSE]


def with_budget(pressure: int = 0) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        glitches = {
            "connection_budget": BUDGET,
            "connection_refill_per_sec": 1,
            "min_pressure_percent": pressure,
        }
        settings["resilience"] = {"protocol": {"glitches": glitches}}

    return change


@pytest.mark.parametrize("ingress", ["h2", "h3"])
def test_a_client_that_gives_up_each_request_is_told_to_end(tmp_path: Path, ingress: str) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert isinstance(client, Http2Client | Http3Client)
        held = await client.open("GET", "/events")

        async def give_up(count: int) -> None:
            for _ in range(count):
                stream = await client.open("POST", "/no-read", end=False)
                await asyncio.sleep(0.005)
                # Unless it was refused, as one after GOAWAY is.
                with contextlib.suppress(ValueError, ProtocolError):
                    await stream.cancel()

        await give_up(BUDGET * 3 // 4 - 5)
        await asyncio.sleep(0.05)
        assert not client.ending
        await give_up(10)
        async with asyncio.timeout(30):
            while not client.ending:
                await asyncio.sleep(0.01)
        transport = "tcp" if ingress == "h2" else "quic"
        labels = {"transport": transport, "consequence": "goaway"}
        assert counted(setup.proxy, "glitch_consequences_total", **labels) == 1
        assert not held.ended.is_set(), "what is under way goes on"
        setup.origin.gate.opened.set()
        assert (await held.whole()).status == 200

    run_with(tmp_path, scenario, ingress, with_budget())


@pytest.mark.parametrize("ingress", ["h2", "h3"])
def test_while_nothing_is_short_the_same_client_is_served(tmp_path: Path, ingress: str) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        for _ in range(2 * BUDGET):
            stream = await client.open("POST", "/no-read", end=False)
            await asyncio.sleep(0.002)
            await stream.cancel()
        assert (await client.fetch("GET", "/size/5")).status == 200
        assert not client.ending
        async with asyncio.timeout(30):
            while counted(setup.proxy, "glitches_total") < BUDGET:
                await asyncio.sleep(0.01)

    run_with(tmp_path, scenario, ingress, with_budget(pressure=100))
