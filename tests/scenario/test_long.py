"""Scenarios that are long: networks of all kinds at random, and connections that live for a day."""

import os
import random

import pytest

from spooky.protocol.quic.engines import Feature
from tests.protocol.quic.support import open_stream, upload
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import Link
from tests.soak.test_back_pressure import resident_bytes

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

KIB, MIB = 1024, 1024 * 1024

HOUR = 3600.0

PAUSE = 20.0
"""Between two requests: less than the idle timeout, and long enough that all has come to rest."""

GROWTH_MAX_BYTES = MIB
"""In a day of one connection; 256 bytes kept of each of its 4,000 requests would be that."""


def some_network(rng: random.Random) -> Link:
    """Return a network that is bad in several ways at once, as far as a handshake can pass it."""
    rate = rng.choice([None, 100_000, 1_250_000, 10_000_000])
    return Link(
        latency=rng.choice([0.0005, 0.01, 0.05, 0.3]),
        jitter=rng.choice([0.0, 0.0, 0.002, 0.02]),
        loss=rng.choice([0.0, 0.01, 0.05, 0.15]),
        duplicate=rng.choice([0.0, 0.0, 0.1]),
        reorder=rng.choice([0.0, 0.0, 0.1]),
        corrupt=rng.choice([0.0, 0.0, 0.02]),
        rate=rate,
        queue=64 * KIB if rate is None else max(16 * KIB, rate * 0.1),
        mtu=rng.choice([1200, 1252, 1472, 9000]),
        mark=rng.choice([0.0, 0.0, 0.1]),
    )


@pytest.mark.parametrize("seed", range(100))
def test_transfers_come_through_networks_of_all_kinds(engines: Engines, seed: int) -> None:
    rng = random.Random(seed)
    # aioquic does not find out what the path carries.
    sizes = {"max_datagram_size": 1200}
    pair = Scenario(engines, seed, link=some_network(rng), client=sizes, server=sizes)
    pair.handshake()
    for number in range(3):
        size = rng.choice([1, 10 * KIB, 300 * KIB])
        pair.download(size, number, seconds=1200)
        pair.upload(size, number, seconds=1200)
    assert not pair.client_handler.closes
    assert not pair.server_handler.closes


def forget(pair: Scenario) -> None:
    """Drop what the test's own side of everything remembers."""
    for handler in (pair.client_handler, pair.server_handler):
        for kept in (handler.data, handler.ended, handler.uploads):
            kept.clear()
        for told in (handler.writable, handler.issued, handler.retired):
            told.clear()
    for host in (pair.client_host, pair.server_host):
        host.received.clear()
    pair.network.sent.clear()
    pair.made_ids.clear()


@pytest.mark.needs(Feature.KEY_UPDATE)
def test_a_connection_that_lives_for_a_day_keeps_nothing(engines: Engines) -> None:
    """With requests, key updates and rebindings all the time."""
    lossy, clean = Link(latency=0.02, loss=0.01), Link(latency=0.02)
    pair = Scenario(engines, link=lossy).handshake()
    client, server = pair.client_handler, pair.server_handler
    client.on_data = server.on_data = lambda stream_id, data, fin: None
    began, requests, first = pair.network.now, 0, 0
    while pair.network.now < began + 24 * HOUR:
        stream = open_stream(pair.client)
        upload(client, stream, b"get")
        assert pair.run(lambda s=stream: s in server.ended, 60), pair.progress()
        upload(server, stream, bytes(2 * KIB))
        assert pair.run(lambda s=stream: s in client.ended, 60), pair.progress()
        requests += 1
        if requests % 100 == 0:
            pair.client.request_key_update()
        # Nothing is lost just after a move: a client that has said all it had to say is lost for
        # its server if the proof of its new address is, again and again (RFC 9000 section 8.1).
        pair.network.link = lossy
        if requests % 150 == 0:
            pair.network.link = clean
            pair.network.rebind(pair.client_host, ("192.0.2.1", 50_000 + requests))
        pair.run(seconds=PAUSE)
        forget(pair)
        if requests == 300:
            first = resident_bytes(os.getpid())
    assert requests > 4000
    assert resident_bytes(os.getpid()) - first < GROWTH_MAX_BYTES
    assert not client.closes
    assert not server.closes
