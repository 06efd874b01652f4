"""The OpenAPI document, held against the server that it describes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from spooky._core import COMPILED
from spooky.control.endpoints import ENDPOINTS
from tests.control.control_api import TOKENS, ask, port_of, with_tokens
from tests.control.serve import served
from tests.support.proxy import run

pytestmark = pytest.mark.skipif(not COMPILED, reason="the twins know nothing of it")

EXAMPLES = 3
"""For each endpoint, with what its schema allows, and again with what it does not."""


def call_all(port: int, document: dict[str, Any]) -> dict[str, set[int]]:
    """Call every endpoint, and return how each answered."""
    schema = schemathesis.openapi.from_dict(document)
    statuses: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        answered = statuses[operation.label] = set()
        call_one(operation.as_strategy(), port, answered)
        # Any text may be the name of a backend: there is no path that is none.
        if operation.body or "{generation}" in operation.path:
            call_one(operation.as_strategy(GenerationMode.NEGATIVE), port, answered)
    return statuses


def call_one(cases: Any, port: int, answered: set[int]) -> None:
    """Call one endpoint with a number of cases, each checked against the document."""

    @seed(4)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def call(case: schemathesis.Case) -> None:
        response = case.call_and_validate(
            base_url=f"https://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {TOKENS['admin']}"},
            verify=False,
            # A request that is right in form may still name what is not there.
            excluded_checks=[positive_data_acceptance],
        )
        answered.add(response.status_code)

    call()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_every_endpoint_answers_as_the_document_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, lambda s: with_tokens(tmp_path, s)) as proxy:
            port = port_of(proxy)
            document = (await ask(port, "/openapi.json", "viewer")).json
            assert len(document["paths"]) == len({each.path for each in ENDPOINTS})
            statuses = await asyncio.to_thread(call_all, port, document)
            assert len(statuses) == len(ENDPOINTS)
            every = set().union(*statuses.values())
            assert every <= {200, 400, 404, 405, 409, 412, 413}
            assert {200, 400, 404} <= every
            assert "a defect" not in proxy.log
            assert (await ask(port, "/ready")).status == 200

    run(scenario)
