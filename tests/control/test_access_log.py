"""The access log of ``spooky serve``: where it goes, whatever the log's level."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.control.serve import served
from tests.support.waiting import until


@pytest.mark.parametrize("level", ["off", "warn"])
def test_the_access_log_goes_to_stderr_whatever_the_level(tmp_path: Path, level: str) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["access_log"] = {"format": "json"}
        settings["log"] = {"level": level}

    async def scenario() -> None:
        async with asyncio.timeout(60), served(tmp_path, 1, change) as proxy:
            client = await proxy.client("h2")
            assert (await client.fetch("GET", "/size/3")).status == 200
            await client.close()
            await until(lambda: '"path":"/size/3"' in proxy.log)
            lines = [line for line in proxy.log.splitlines() if line.startswith("{")]
            assert [json.loads(line)["status"] for line in lines] == [200]

    uvloop.run(scenario())
