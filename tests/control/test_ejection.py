"""Ejection through changes of the configuration: what is kept, what begins anew, what is told."""

import asyncio
from typing import Any

import pytest

from spooky._core import reasons
from spooky._core.shared import Segment
from spooky.config import from_mapping
from spooky.control.health import Health
from spooky.control.outlier_detection import OutlierEjection
from spooky.generation.materials import Materials
from spooky.observe.segment import private_segment
from spooky.runtime import Runtime
from spooky.upstream.health import BackendHealth
from spooky.upstream.outlier import make_tally
from spooky.upstream.resolver import SystemResolver
from tests.support.proxy import run

MATERIALS = Materials({}, b"")


def configured(*addresses: str, **upstream: Any) -> Any:
    """Return a configuration with so many backends."""
    return from_mapping(
        {
            "listen": {"tls": {"cert": "c", "key": "k"}},
            "upstream": {
                "api": {
                    "route": {"path_prefix": "/"},
                    "backends": [
                        {"id": f"b{at}", "address": f"http://{address}"}
                        for at, address in enumerate(addresses)
                    ],
                    **upstream,
                }
            },
        }
    )


THREE = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def ejected(segment: Segment) -> list[int]:
    health = (BackendHealth(segment, "api", f"b{at}") for at in range(3))
    return [at for at, one in enumerate(health) if one.ejected_for is not None]


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (configured(*THREE), [1]),
        (configured(*THREE, outlier_detection={"base_ejection_ms": 1_000}), [1]),
        (configured(*THREE, panic_threshold_percent=0), [1]),
        (configured(THREE[0], THREE[1]), [1]),
        (configured(THREE[0], "10.0.0.9", THREE[2]), []),
        (configured(*THREE, protocol="http2"), []),
        (configured(*THREE, outlier_detection={"enabled": False}), []),
    ],
)
def test_what_is_known_of_a_backend_is_kept_while_the_way_to_it_is_the_same(
    after: Any, kept: list[int]
) -> None:
    async def scenario() -> None:
        runtime, segment = Runtime(asyncio.get_running_loop()), private_segment()
        now = 100.0
        runtime.now = lambda: now
        ejection = OutlierEjection(runtime, segment)
        before = configured(*THREE)
        ejection.follow(before, MATERIALS)
        tally = make_tally(segment, "api", "b1", before.upstream["api"].outlier_detection)
        for _ in range(5):
            tally.failed(reasons.CONNECT_REFUSED)
        ejection._look()
        assert ejected(segment) == [1]
        facts = {(fact.name, fact.labels): fact.value for fact in ejection.facts()}
        labels = (("upstream", "api"), ("backend", "b1"))
        assert facts["backend_ejected", labels] == 1
        reason = ("reason", "consecutive_gateway_errors")
        assert facts["backend_ejections_total", (*labels, reason)] == 1
        ejection.follow(after, MATERIALS)
        ejection._look()
        assert ejected(segment) == kept
        # As long as was said at first.
        now = 129.0
        ejection._look()
        assert ejected(segment) == kept
        now = 130.1
        ejection._look()
        assert ejected(segment) == []
        ejection.close()
        await runtime.close()

    run(scenario)


def test_how_far_a_slow_start_has_come_is_told() -> None:
    async def scenario() -> None:
        runtime, segment = Runtime(asyncio.get_running_loop()), private_segment()
        now = 1000.0
        runtime.now = lambda: now
        health = Health(runtime, segment, SystemResolver(runtime.loop), lambda *_: None)

        def shares() -> list[float]:
            found = [one for one in health.facts() if one.name == "backend_slow_start_ratio"]
            assert [one.labels[0] for one in found] == [("upstream", "api")] * len(found)
            return [one.value for one in found]

        health.follow(configured(*THREE, slow_start={"window_ms": 10_000}), MATERIALS)
        assert shares() == [1, 1, 1]
        returning = BackendHealth(segment, "api", "b1")
        returning.set_failing(True, now)
        returning.set_failing(False, now)
        now += 4.0
        assert shares() == [1, 0.4, 1]
        now += 6.0
        assert shares() == [1, 1, 1]
        health.follow(configured(*THREE), MATERIALS)
        assert shares() == []
        health.close()
        await runtime.close()

    run(scenario)


def test_it_is_known_which_share_of_the_backends_can_serve() -> None:
    async def scenario() -> None:
        runtime, segment = Runtime(asyncio.get_running_loop()), private_segment()
        health = Health(runtime, segment, SystemResolver(runtime.loop), lambda *_: None)
        assert health.ready() == {}
        health.follow(configured(*THREE, "10.0.0.4"), MATERIALS)
        assert health.ready() == {"api": 1.0}
        BackendHealth(segment, "api", "b0").eject(reasons.EJECTED_LATENCY, 1e6)
        BackendHealth(segment, "api", "b1").set_failing(True, 1.0)
        assert health.ready() == {"api": 0.5}
        health.close()
        await runtime.close()

    run(scenario)
