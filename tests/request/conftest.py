"""A proxy in front of one backend, for each client protocol."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.proxy import INGRESSES, Setup, run, running

Scenario = Callable[[Setup], Awaitable[None]]
RunWith = Callable[..., None]


@pytest.fixture(params=INGRESSES)
def run_with(request: pytest.FixtureRequest, tmp_path: Path) -> RunWith:
    """Return a function that runs a scenario with some ``performance`` settings."""

    def run_scenario(scenario: Scenario, *, upstream: str = "h1", **performance: Any) -> None:
        def change(settings: dict[str, Any]) -> None:
            settings["performance"] |= performance

        async def with_proxy() -> None:
            async with running(tmp_path, request.param, upstream, change) as setup:
                await scenario(setup)

        run(with_proxy)

    return run_scenario
