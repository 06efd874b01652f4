"""A running proxy between networks that lose, reorder, repeat, damage, delay and cut."""

import asyncio
from pathlib import Path

import pytest

import spooky
from spooky.bench.relay import udp_relay
from tests.support.faults import tcp_relay
from tests.support.origin import Origin, pattern
from tests.support.proxy import Setup, configuration, connect, run, running

BODY = pattern(400_000)


@pytest.mark.parametrize("seed", [1, 2])
def test_http3_brings_every_byte_through_a_bad_network(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        async with (
            running(tmp_path, "h3", "h1") as setup,
            udp_relay(setup.proxy.port, seed) as relay,
        ):
            for faults in (relay.to_server, relay.to_client):
                faults.loss, faults.duplicates, faults.damage = 0.03, 0.03, 0.02
                faults.delay, faults.jitter = 0.002, 0.003
            client = await connect("h3", relay.port)
            setup.clients.append(client)
            down = await client.fetch("GET", f"/size/{len(BODY)}")
            assert down.body == BODY
            up = await client.fetch("POST", "/count", body=BODY)
            assert b"%d" % len(BODY) in up.body
            assert relay.lost > 5

    run(scenario)


@pytest.mark.parametrize("ingress", ["h2", "h1"])
def test_tcp_clients_are_served_through_a_slow_network(tmp_path: Path, ingress: str) -> None:
    async def scenario() -> None:
        async with (
            running(tmp_path, ingress, "h1") as setup,
            tcp_relay(setup.proxy.port, 3) as relay,
        ):
            relay.to_server.delay = relay.to_client.jitter = 0.005
            relay.to_client.rate = 2_000_000
            client = await connect(ingress, relay.port)
            setup.clients.append(client)
            down = await client.fetch("GET", f"/size/{len(BODY)}")
            assert down.body == BODY
            up = await client.fetch("POST", "/count", body=BODY)
            assert b"%d" % len(BODY) in up.body

    run(scenario)


@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_a_backend_that_is_cut_off_in_mid_response_never_passes_for_whole(
    tmp_path: Path, ingress: str
) -> None:
    async def scenario() -> None:
        async with Origin("h1", None) as origin:
            port = int(origin.address.rpartition(":")[2])
            async with tcp_relay(port, 4) as relay:
                relay.to_client.cut_after = 100_000
                address = f"http://127.0.0.1:{relay.port}"
                async with spooky.Proxy(configuration(tmp_path, address)) as proxy:
                    setup = Setup(proxy, origin, ingress)
                    client = await setup.client()
                    cut = await client.fetch("GET", f"/size/{len(BODY)}")
                    assert cut.status == 200
                    assert cut.cut is not None
                    assert BODY.startswith(cut.body)
                    assert len(cut.body) < len(BODY)
                    assert relay.cut == 1
                    relay.to_client.cut_after = 0
                    fresh = await setup.client()
                    assert (await fresh.fetch("GET", f"/size/{len(BODY)}")).body == BODY
                    await client.close()
                    await fresh.close()
            await asyncio.sleep(0)

    run(scenario)
