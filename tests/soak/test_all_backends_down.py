"""All backends die: how fast clients are told so, which depends on the machine."""

import asyncio
from pathlib import Path

import pytest

from tests.control.test_all_backends_down import STORM_MAX, outage

pytestmark = pytest.mark.soak

SHED = 2_000
SHED_MS_MAX = 1.0


def test_clients_are_told_at_once(tmp_path: Path) -> None:
    seen = asyncio.run(outage(tmp_path, SHED))
    durations = seen.shed_ms
    print(
        f"shed in {durations[len(durations) // 2]:.3f} ms (99 %: "
        f"{durations[len(durations) * 99 // 100]:.3f} ms), back after "
        f"{seen.recovery_seconds:.1f} s, {seen.arrived} requests at backends of {seen.asked} asked"
    )
    # Most: a probe has to find out, and a busy machine holds some others up.
    assert durations[len(durations) * 3 // 4] <= SHED_MS_MAX
    assert seen.arrived <= STORM_MAX * seen.asked
