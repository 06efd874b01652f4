"""Every pair of a client protocol and a backend protocol."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.proxy import INGRESSES, UPSTREAMS, Setup, run, running


class Pair:
    """One pair of protocols."""

    def __init__(self, ingress: str, upstream: str, directory: Path) -> None:
        self.ingress = ingress
        self.upstream = upstream
        self._directory = directory

    def run(
        self,
        scenario: Callable[[Setup], Awaitable[None]],
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Run a scenario against a proxy between the two."""

        async def with_proxy() -> None:
            async with running(self._directory, self.ingress, self.upstream, change) as setup:
                await scenario(setup)

        run(with_proxy)


@pytest.fixture(
    params=[(ingress, upstream) for ingress in INGRESSES for upstream in UPSTREAMS],
    ids=lambda pair: f"{pair[0]}-to-{pair[1]}",
)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Each of the fifteen pairs."""
    return Pair(*request.param, tmp_path)
