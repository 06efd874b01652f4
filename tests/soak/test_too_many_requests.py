"""A minute of five times the load that real backends can take."""

import contextlib
import os
from pathlib import Path

import pytest

from benchmarks.resilience import (
    CONCURRENCY,
    MIB,
    Backends,
    overloaded,
    spooky,
)
from spooky.bench.proxies import wait_for_udp

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
GROWTH_MAX = 16 * MIB
"""Of all processes together: the connections of the load, and what allocators add."""


def test_goodput_latency_memory_and_recovery(tmp_path: Path) -> None:
    backends = Backends(CONCURRENCY)
    with contextlib.closing(backends), spooky(tmp_path, backends.ports, True) as proxy:
        wait_for_udp(proxy)
        calm, over, grown, after = overloaded(proxy, backends, SECONDS)
    print(
        f"{over.goodput:.0f} of {backends.capacity:.0f} requests/s, {over.least:.0f}/s at worst, "
        f"p99 {over.p99:.1f} ms, {calm.p99:.1f} ms unloaded, {grown / MIB:.1f} MiB more memory"
    )
    assert set(over.result.errors) == {"status 503"}
    assert over.least >= 0.9 * backends.capacity
    assert over.p99 <= 3 * calm.p99
    assert grown <= GROWTH_MAX
    assert after.result.errors == {}
