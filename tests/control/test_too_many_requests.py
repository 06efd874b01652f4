"""More requests than real backends can take, through `spooky serve`: what becomes of them.

Capacity is set by the backends, low enough that clients and proxy have room to spare. How much is
done meanwhile, and how long it takes, depends on the machine:
:mod:`tests.soak.test_too_many_requests` measures it, and :mod:`tests.overload.test_adaptive_limit`
proves it in simulated time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.control.serve import served
from tests.control.test_outliers import WORKERS, to_fleet
from tests.support.fleet import Kind, Load, Member, fleet
from tests.support.ports import free_port
from tests.support.proxy import run
from tests.support.scraping import scrape
from tests.support.waiting import until

KIND = Kind(concurrency=2, service_ms=40.0)
BACKENDS = 2
CAPACITY = BACKENDS * KIND.concurrency / (KIND.service_ms / 1000)

FEW = 8
"""Clients that ask for one thing at a time, so that even the least limit has room for all of them,
however slowly they are served."""


def limited(members: list[Member], **adaptive: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change that has requests go to a fleet behind an adaptive limit."""
    go = to_fleet(members, {})

    def change(settings: dict[str, Any]) -> None:
        go(settings)
        resilience = settings.setdefault("resilience", {})
        resilience["adaptive_admission"] = {"enabled": True, **adaptive}

    return change


def answered_in_a_row(load: Load) -> int:
    """Return how many requests have been answered with 200 since one was not."""
    return next(
        (at for at, one in enumerate(reversed(load.samples)) if one.status != 200),
        len(load.samples),
    )


def reasons(page: str) -> set[str]:
    """Return why requests ended that did."""
    return {
        sample.labels["reason"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "spooky_requests_total" and sample.value
    }


def test_what_is_too_much_is_shed_for_that_reason_and_nothing_is_once_it_is_over(
    tmp_path: Path,
) -> None:
    port = free_port()

    async def scenario() -> None:
        async with fleet(*[KIND] * BACKENDS) as members:
            limit = limited(members, min_limit=FEW)

            def change(settings: dict[str, Any]) -> None:
                limit(settings)
                # A busy machine has event loops come late, which is shed for as well.
                settings["resilience"]["overload"] = {"enabled": False}
                settings["observability"] = {"metrics": {"enabled": True, "port": port}}

            async with served(tmp_path, WORKERS, change) as proxy:
                async with Load(proxy.port, clients=128, rate=5 * CAPACITY) as load:
                    await until(lambda: load.count(200) >= 200 and load.count(503) >= 400)
                    page = await scrape(port)
                assert load.count(200) + load.count(503) == len(load.samples)
                # At once, or after some waiting for a place.
                shed = reasons(page) - {"completed"}
                assert shed
                assert shed <= {"adaptive_admission", "queue_timeout"}
                async with Load(proxy.port, clients=FEW, rate=CAPACITY / 2) as after:
                    await until(lambda: answered_in_a_row(after) >= 50)

    run(scenario)
