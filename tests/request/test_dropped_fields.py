"""Fields that are left out for an underscore in their name leave a trace in the metrics."""

from spooky.observe.counters import totals
from tests.request.conftest import RunWith
from tests.support.proxy import Setup


def test_requests_that_lose_fields_are_counted(run_with: RunWith) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client()
        assert (await client.fetch("GET", "/size/1", [(b"x-user", b"a")])).status == 200
        for _ in range(2):
            lost = [(b"x_user", b"a"), (b"y_user", b"b")]
            assert (await client.fetch("GET", "/size/1", lost)).status == 200
        found = totals(setup.proxy.counters.segment)
        metric = "requests_with_dropped_fields_total"
        assert [value for name, (value, *_) in found.items() if name.metric == metric] == [2]

    run_with(scenario)
