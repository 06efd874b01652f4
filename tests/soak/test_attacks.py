"""How long bystanders wait during attacks, and a minute of 100,000 half-open attempts."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

from tests.attacks import floods_h2, floods_h3
from tests.attacks.ground import MIB, Bystander, Ground, ground

pytestmark = pytest.mark.soak

QUIET_SECONDS = 5.0
FLOOD_SECONDS = 10.0
HELLOS_PER_SECOND = 1_700
"""More than 100,000 a minute."""

SLOWER_MAX = 3.0


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("ground")) as running:
        yield running


async def p99(bystanders: list[Bystander], seconds: float) -> float:
    """Return the 99th percentile of what bystanders wait for a response in some time; seconds."""
    before = [len(each.seconds) for each in bystanders]
    failures = [len(each.failures) for each in bystanders]
    await asyncio.sleep(seconds)
    for each, count in zip(bystanders, failures, strict=True):
        assert each.failures[count:] == [], each.ingress
    waited = sorted(
        took
        for each, start in zip(bystanders, before, strict=True)
        for took in each.seconds[start:]
    )
    return waited[int(0.99 * len(waited))]


async def attacker(kind: str, name: str, port: int, seconds: float) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.flooding", kind, name, str(port), str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


FLOODS = [("h2", name) for name in floods_h2.FLOODS] + [("h3", name) for name in floods_h3.FLOODS]


@pytest.mark.parametrize(("kind", "name"), FLOODS)
def test_bystanders_wait_no_more_than_three_times_as_long(
    proxy: Ground, kind: str, name: str
) -> None:
    async def scenario() -> None:
        async with proxy.siege():
            quiet = await p99(proxy.bystanders, QUIET_SECONDS)
            attack = await attacker(kind, name, proxy.port, FLOOD_SECONDS + 2)
            await asyncio.sleep(1.0)
            flooded = await p99(proxy.bystanders, FLOOD_SECONDS)
            output, _ = await attack.communicate()
            assert int(output) > 0
            print(f"{kind} {name}: {int(output)} attacks, p99 {quiet:.4f} s to {flooded:.4f} s")
            assert flooded <= SLOWER_MAX * quiet

    asyncio.run(scenario())


def test_a_hundred_thousand_half_open_attempts_a_minute_leave_clients_untouched(
    proxy: Ground,
) -> None:
    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True) as siege:
            quiet = await p99(proxy.bystanders, QUIET_SECONDS)
            attack = await attacker("hellos", str(HELLOS_PER_SECOND), proxy.port, 62)
            await asyncio.sleep(1.0)
            flooded = await p99(proxy.bystanders, 60)
            assert await proxy.counted("quic_retry_active") == 1
            assert await proxy.counted("connections_active") <= proxy.half_open_max // 2
            output, _ = await attack.communicate()
            print(f"{int(output)} s of hellos, p99 {quiet:.4f} s to {flooded:.4f} s")
            assert int(output) >= 55
            assert flooded <= SLOWER_MAX * quiet
            assert siege.memory < 32 * MIB
        await proxy.until(proxy.is_calm)

    asyncio.run(scenario())
