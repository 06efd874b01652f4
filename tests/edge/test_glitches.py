"""One account of a client's oddities: GOAWAY at three quarters, a close at the whole."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from h2.exceptions import ProtocolError

from spooky._core import reasons
from spooky.config.client_address import ClientAddress
from spooky.config.glitches import Glitches
from spooky.edge.glitches import (
    BROKEN_WEIGHT,
    WHOLE,
    GlitchAccount,
    GlitchBook,
    Verdict,
    _source_key,
)
from spooky.observe.counters import Counters
from spooky.overload.manager import Measures
from spooky.request.client_address import TrustedProxies
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


def test_a_source_that_spent_three_quarters_may_begin_nothing_while_spooky_is_pressed() -> None:
    books = Books()
    policy = Glitches(None, 1, BUDGET, 1, 50)
    account, book = books.account(policy, "2001:db8::1"), books.book
    nobody = TrustedProxies(ClientAddress())
    books.measures.lag_pressure = 0.5
    assert not book.refuses(policy, nobody, "2001:db8::1", 10.0), "it was never odd"
    soft = BUDGET * 3 // 4
    verdicts(account, [soft - 1])
    assert not book.refuses(policy, nobody, "2001:db8::2", 10.0)
    verdicts(account, [soft])
    assert book.refuses(policy, nobody, "2001:db8::2", 10.0), "it is the same source"
    assert not book.refuses(policy, nobody, "2001:db8:0:1::1", 10.0)
    assert not book.refuses(Glitches(None, 1, None, 1, 50), nobody, "2001:db8::2", 10.0)
    assert not book.refuses(policy, nobody, "2001:db8::2", 11.0), "one was forgotten meanwhile"
    verdicts(account, [BUDGET])
    assert book.refuses(policy, nobody, "2001:db8::2", 11.0), "the last token alone lets nobody in"
    proxies = TrustedProxies(ClientAddress(trusted_cidrs=("2001:db8::/32",)))
    assert not book.refuses(policy, proxies, "2001:db8::2", 11.0), "it speaks for many"
    books.measures.lag_pressure = 0.0
    assert not book.refuses(policy, nobody, "2001:db8::2", 10.0)


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


@pytest.mark.parametrize("ingress", ["h1", "h2", "h3"])
def test_new_connections_of_a_source_that_was_too_odd_are_refused(
    tmp_path: Path, ingress: str
) -> None:
    """Only while Spooky is pressed, as for what becomes of connections that are there."""

    def change(settings: dict[str, Any]) -> None:
        glitches = {"source_budget": BUDGET, "source_refill_per_sec": 1}
        settings["resilience"] = {"protocol": {"glitches": {**glitches, "min_pressure_percent": 0}}}

    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("GET", "/size/5")).status == 200
        key, now = _source_key(WHOLE, "127.0.0.1"), time.monotonic_ns()
        # As if it had been odd at some time to come, so that none is forgotten meanwhile.
        while setup.proxy.counters.segment.take_source_rate(key, now, 10**11, BUDGET):
            pass
        with pytest.raises((OSError, EOFError, TimeoutError)):
            async with asyncio.timeout(3):
                await setup.client()
        assert counted(setup.proxy, "connections_refused_total", reason="client_glitches") >= 1
        assert (await client.fetch("GET", "/size/5")).status == 200

    run_with(tmp_path, scenario, ingress, change)
