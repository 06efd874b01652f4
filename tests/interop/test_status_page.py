"""The status page in a real browser, with its script and without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.control.control_api import TOKENS, port_of, with_tokens
from tests.control.serve import Served, served
from tests.interop.conftest import program
from tests.support.browser import Tab, browsing
from tests.support.client import Client
from tests.support.proxy import run

TABLES = ("upstreams", "backends", "listeners", "workers", "generations")
DRAWN = "document.querySelectorAll('svg.live polyline').length === 3"


@contextlib.asynccontextmanager
async def shown(directory: Path) -> AsyncIterator[tuple[Served, Client, Tab, str]]:
    """Run a proxy that served a request, and a browser; give the address of the page too."""

    def change(settings: dict[str, Any]) -> None:
        with_tokens(directory, settings)
        backends = settings["upstream"]["backend"]["backends"]
        backends += [{"id": "idle", "address": "http://127.0.0.1:1", "state": "drained"}]

    async with (
        served(directory, 1, change) as proxy,
        browsing(program("chromium-headless-shell"), directory) as tab,
    ):
        client = await proxy.client("h3")
        assert (await client.fetch("GET", "/status/200")).status == 200
        await tab.log_in("anybody", TOKENS["viewer"])
        yield proxy, client, tab, f"https://127.0.0.1:{port_of(proxy)}/status"


async def rows(tab: Tab, section: str) -> int:
    found = await tab.evaluate(f"document.querySelectorAll('#{section} tbody tr').length")
    return int(found)


def test_a_browser_shows_the_page_and_goes_on_by_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with shown(tmp_path) as (_, client, tab, address):
            await tab.go(address)
            await tab.wait_for("document.getElementById('live')?.textContent === 'live'")
            for section in TABLES:
                assert await rows(tab, section) > 0, section
            # The style sheet came, and what is drawn is drawn.
            assert (
                await tab.evaluate("getComputedStyle(document.querySelector('main')).display")
                == "grid"
            )
            assert await tab.evaluate("document.querySelector('svg .bar').getBBox().width") > 0

            async def load() -> None:
                while True:
                    await client.fetch("GET", "/status/200")
                    await asyncio.sleep(0.01)

            loading = asyncio.create_task(load())
            try:
                await tab.wait_for(DRAWN)
                await tab.wait_for("parseFloat(document.getElementById('rate').textContent) > 1")
            finally:
                loading.cancel()
            (drained,) = await tab.evaluate(
                "[...document.querySelectorAll('#backends tbody tr')].map(row => row.textContent)"
                ".filter(text => text.includes('drained'))"
            )
            assert "idle" in drained
            assert tab.complaints == []

    run(scenario)


def test_without_a_script_all_but_what_moves_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with shown(tmp_path) as (proxy, _, tab, address):
            await tab.call("Emulation.setScriptExecutionDisabled", value=True)
            await tab.go(address)
            page = await tab.html()
            for part in (
                "as of this request", "1, in force", "drained", proxy.origin.address, "closed",
                str(proxy.workers[0]), "1 requests since the start", 'class="bar"',
            ):  # fmt: skip
                assert part in page, part
            assert 'class="plot live"' not in page

    run(scenario)


def test_a_browser_that_lost_the_server_says_so_and_comes_back(tmp_path: Path) -> None:
    """The page is not shown as live when it is not."""

    async def scenario() -> None:
        async with shown(tmp_path) as (proxy, _, tab, address):
            await tab.go(address)
            live = "document.getElementById('live')?.textContent"
            await tab.wait_for(f"{live} === 'live'")
            token = tmp_path / "viewer.token"
            kept = token.read_text()
            for text, awaited in (
                ("x" * 40 + "\n", "startsWith('not live')"),
                (kept, "match(/^live$/)"),
            ):
                token.write_text(text)
                await tab.wait_for(f"{live}.{awaited}")
            assert proxy.process.returncode is None

    run(scenario)
