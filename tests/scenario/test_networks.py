"""What networks do beyond the interop runner's cases: disorder, small paths, marks, silence."""

import dataclasses
from collections import Counter
from typing import Any, cast

import pytest
from aioquic.quic.packet import QuicPacketType

from spooky._core.quic.errors import TransportError
from spooky.protocol.quic.engines import Feature
from tests.protocol.quic.support import open_stream, pattern, upload
from tests.scenario.endpoints import Engines, Scenario
from tests.scenario.frames import FrameType
from tests.simnet import CLIENT, DEAD, SERVER, Link

KIB, MIB = 1024, 1024 * 1024

ETHERNET = 1472
"""What IPv4 leaves of 1,500 bytes to a UDP payload."""


class TestDisorder:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_third_of_the_datagrams_overtaken(self, engines: Engines, seed: int) -> None:
        pair = Scenario(engines, seed, link=Link(reorder=0.3, jitter=0.008)).handshake()
        pair.download(300 * KIB)

    @pytest.mark.parametrize("seed", range(3))
    def test_half_of_the_datagrams_twice(self, engines: Engines, seed: int) -> None:
        """RFC 9000 section 12.3: a packet counts once."""
        pair = Scenario(engines, seed, link=Link(duplicate=0.5, jitter=0.004)).handshake()
        pair.download(300 * KIB)
        pair.upload(100 * KIB)

    def test_disorder_alone_does_not_slow_a_transfer_down(self, engines: Engines) -> None:
        """A few places out of order are not a loss (RFC 9002 section 6.1)."""
        straight = Link(latency=0.015, rate=1_250_000)
        times = [
            Scenario(engines, 2, link=link).handshake().download(500 * KIB)
            for link in (straight, dataclasses.replace(straight, jitter=0.001))
        ]
        assert times[1] < 2 * times[0]

    @pytest.mark.parametrize("seed", range(3))
    def test_an_old_datagram_again_changes_nothing(self, engines: Engines, seed: int) -> None:
        """Replayed by someone who cannot read them, from the first to the last."""
        pair = Scenario(engines, seed).handshake()
        pair.download(20 * KIB)
        for _, source, destination, payload in list(pair.network.sent):
            pair.network.send(payload, source, destination)
        pair.download(20 * KIB)
        assert not pair.client_handler.closes
        assert not pair.server_handler.closes


class TestWindows:
    @pytest.mark.parametrize("who", ["client", "server"])
    def test_tiny_windows_make_it_slow_but_not_stuck(self, engines: Engines, who: str) -> None:
        """RFC 9000 section 4.1: a window smaller than a few packets."""
        tiny = {
            "stream_window": 2000,
            "stream_window_max": 2000,
            "connection_window": 3000,
            "connection_window_max": 3000,
        }
        pair = Scenario(engines, link=Link(loss=0.05), **{who: tiny}).handshake()
        if who == "client":
            pair.download(40 * KIB)
        else:
            pair.upload(40 * KIB)

    def test_no_streams_until_there_is_room(self, engines: Engines) -> None:
        pair = Scenario(engines, server={"max_streams_bidi": 1}).handshake()
        for number in range(5):
            pair.download(KIB, seed=number)
            pair.run(seconds=0.1)


@pytest.mark.needs(Feature.KEY_UPDATE, of="either")
class TestKeys:
    @pytest.mark.parametrize("seed", range(3))
    def test_keys_change_again_and_again_on_a_rough_network(
        self, engines: Engines, seed: int
    ) -> None:
        """RFC 9001 section 6.5: packets of the old keys are still on their way."""
        link = Link(loss=0.05, reorder=0.1, jitter=0.004)
        pair = Scenario(engines, seed, link=link).handshake()
        askers = pair.those_with(Feature.KEY_UPDATE)
        for number in range(6):
            who = askers[number % len(askers)]
            stream = pair.start_download(50 * KIB, number)
            pair.run(seconds=0.03)
            who.request_key_update()
            pair.finish_download(stream, 50 * KIB, number)
            pair.run(seconds=1)
        highest = max(packet.key_generation for packet in pair.packets())
        assert highest == 6

    def test_an_update_is_not_begun_before_the_last_was_confirmed(self, engines: Engines) -> None:
        """RFC 9001 section 6.1."""
        pair = Scenario(engines, link=Link(latency=0.2)).handshake()
        asker = pair.those_with(Feature.KEY_UPDATE)[0]
        for _ in range(3):
            asker.request_key_update()
            asker.ping()
            pair.run(seconds=0.05)
        generations = {packet.key_generation for packet in pair.packets()}
        assert max(generations) <= 1
        pair.network.link = Link()
        pair.download(10 * KIB)


@pytest.mark.needs(Feature.AEAD_LIMITS, of="server")
class TestSealingLimits:
    """RFC 9001 section 6.6, with AEADs that bear less than there are."""

    def test_keys_change_before_they_are_used_up(self, engines: Engines) -> None:
        """Attack 40; without such a limit one key seals everything."""

        def sealed(limit: int) -> Counter[int]:
            pair = Scenario(engines).handshake()
            pair.download(10 * KIB)
            cast(Any, pair.server).limit_sealing(limit)
            pair.download(3 * MIB)
            assert not pair.server_handler.closes
            return Counter(packet.key_generation for packet in pair.packets(from_server=True))

        limited, endless = sealed(1000), sealed(1 << 60)
        assert max(limited) >= 3
        assert max(limited.values()) < 1000
        assert max(endless) == 0
        assert max(endless.values()) > 1000

    def test_keys_that_cannot_be_changed_are_not_used_beyond(self, engines: Engines) -> None:
        """The peer acknowledges nothing of what they sealed (section 6.1)."""
        pair = Scenario(engines).handshake()
        pair.download(5 * MIB)
        cast(Any, pair.server).limit_sealing(200)
        pair.start_download(20 * MIB, seed=1)
        pair.run(seconds=0.021)
        pair.network.drop = lambda source, payload: source == CLIENT
        assert pair.run(lambda: bool(pair.server_handler.closes), 20)
        [close] = pair.server_handler.closes
        assert close.error_code == TransportError.AEAD_LIMIT_REACHED
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        assert pair.client_handler.closes[0].error_code == TransportError.AEAD_LIMIT_REACHED
        sealed = Counter(packet.key_generation for packet in pair.packets(from_server=True))
        assert 100 < sealed[max(sealed)] < 200


class TestPathSize:
    @pytest.mark.needs(Feature.PATH_MTU_DISCOVERY)
    def test_datagrams_grow_to_what_the_path_carries(self, engines: Engines) -> None:
        """RFC 9000 section 14.3, RFC 8899."""
        pair = Scenario(engines, link=Link(mtu=ETHERNET)).handshake()
        pair.download(MIB)
        sizes = [len(p) for _, source, _, p in pair.network.sent if source == SERVER]
        assert max(size for size in sizes if size <= ETHERNET) > 1400
        # Probes that are too large are few, and no reason to slow down.
        assert sum(size > ETHERNET for size in sizes) < 20

    @pytest.mark.needs(Feature.PATH_MTU_DISCOVERY)
    def test_who_says_little_asks_for_no_larger_datagrams(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        pair.download(500)
        assert max(len(payload) for *_, payload in pair.network.sent) == 1200

    @pytest.mark.needs(Feature.PATH_MTU_DISCOVERY)
    def test_a_path_that_becomes_small_is_noticed(self, engines: Engines) -> None:
        """An MTU black hole (RFC 8899 section 4.3): large datagrams vanish, small ones pass."""
        pair = Scenario(engines, link=Link(mtu=ETHERNET, latency=0.015)).handshake()
        pair.download(500 * KIB)
        pair.network.link = Link(mtu=1252, latency=0.015)
        began = len(pair.network.sent)
        pair.download(300 * KIB, seed=1)
        last = [len(p) for _, source, _, p in pair.network.sent[began:] if source == SERVER][-50:]
        assert max(last) <= 1252

    @pytest.mark.needs(Feature.PATH_MTU_DISCOVERY)
    def test_the_smallest_path_there_may_be(self, engines: Engines) -> None:
        """RFC 9000 section 14: 1200 bytes must pass, and need not more."""
        pair = Scenario(engines, link=Link(mtu=1200)).handshake()
        pair.download(200 * KIB)
        pair.upload(50 * KIB)


class TestMarks:
    @pytest.mark.needs(Feature.ECN)
    def test_marks_slow_a_sender_down_as_losses_do(self, engines: Engines) -> None:
        """RFC 9002 section 7.1: congestion without a loss."""
        plain = Scenario(engines, 3).handshake().download(2 * MIB)
        pair = Scenario(engines, 3, link=Link(mark=0.05)).handshake()
        assert pair.download(2 * MIB) > 1.5 * plain
        assert {datagram.ecn for datagram in pair.client_host.received} >= {2, 3}

    @pytest.mark.needs(Feature.ECN)
    def test_a_path_that_clears_marks_is_used_without(self, engines: Engines) -> None:
        """RFC 9000 section 13.4.2: validation fails, and the transfer does not."""
        pair = Scenario(engines, link=Link(bleach=True)).handshake()
        pair.download(300 * KIB)
        assert not any(packet.has(FrameType.ACK_ECN) for packet in pair.packets())


class TestSilence:
    @pytest.mark.parametrize("towards", ["client", "server"])
    def test_one_direction_is_dead_for_a_while(self, engines: Engines, towards: str) -> None:
        pair = Scenario(engines, link=Link(latency=0.015, rate=1_250_000)).handshake()
        stream = pair.start_download(500 * KIB)
        pair.run(seconds=0.1)
        from_whom = SERVER if towards == "client" else CLIENT
        pair.network.drop = lambda source, payload: source == from_whom
        pair.run(seconds=1.5)
        pair.network.drop = lambda source, payload: False
        pair.finish_download(stream, 500 * KIB, seconds=10)

    def test_the_servers_first_flight_is_lost(self, engines: Engines) -> None:
        """RFC 9002 section 6.2.2.1: the client's probes free a server that may send no more."""
        pair = Scenario(engines)
        said: list[bytes] = []

        def first_flight(source: object, payload: bytes) -> bool:
            if source == SERVER:
                said.append(payload)
            return source == SERVER and len(said) <= 3

        pair.network.drop = first_flight
        pair.handshake(seconds=10)
        pair.download(KIB)

    def test_the_clients_finished_is_lost(self, engines: Engines) -> None:
        pair = Scenario(engines)
        pair.network.drop = lambda source, payload: (
            source == CLIENT and pair.client_handler.handshake is not None
        )
        assert pair.run(lambda: pair.client_handler.handshake is not None, 1)
        stream = pair.start_download(KIB)
        pair.run(seconds=0.5)
        assert pair.server_handler.handshake is None
        pair.network.drop = lambda source, payload: False
        pair.finish_download(stream, KIB)

    def test_nothing_is_sent_for_ever_to_a_peer_that_is_gone(self, engines: Engines) -> None:
        """RFC 9000 section 10.1, RFC 9002 section 6.2.1: probes grow rare, and end."""
        pair = Scenario(engines).handshake()
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, pattern(500 * KIB))
        pair.run(seconds=0.02)
        pair.network.link = DEAD
        began = len(pair.network.sent)
        pair.closed()
        assert pair.client_handler.closes[0].timed_out
        assert len(pair.network.sent) - began < 150

    def test_an_idle_connection_is_silent(self, engines: Engines) -> None:
        pair = Scenario(engines).handshake()
        pair.download(50 * KIB)
        pair.run(seconds=3)
        before = len(pair.network.sent)
        pair.run(seconds=20)
        # Path MTU probes and keep-alive have their time before.
        assert len(pair.network.sent) - before <= 4


class TestPaths:
    def test_a_spoofed_datagram_does_not_take_the_connection_along(self, engines: Engines) -> None:
        """RFC 9000 section 9.3.2: someone repeats a client's datagram first, from elsewhere."""
        pair = Scenario(engines, link=Link(latency=0.015, rate=1_250_000)).handshake()
        stream = pair.start_download(500 * KIB)
        pair.run(seconds=0.15)
        spoofer = ("203.0.113.66", 666)
        pair.network.rebind(pair.client_host, spoofer)
        pair.client.ping()
        pair.run(seconds=0.001)
        pair.network.rebind(pair.client_host, CLIENT)
        pair.run(seconds=0.05)
        pair.client.ping()
        pair.finish_download(stream, 500 * KIB, seconds=10)
        assert pair.server.peer == CLIENT
        to_spoofer = sum(len(p) for _, _, to, p in pair.network.sent if to == spoofer)
        from_spoofer = sum(len(p) for _, source, _, p in pair.network.sent if source == spoofer)
        assert to_spoofer <= 3 * from_spoofer

    def test_a_migration_before_the_handshake_is_confirmed_is_ignored(
        self, engines: Engines
    ) -> None:
        """RFC 9000 section 9: a server does not follow before that."""
        pair = Scenario(engines)
        assert pair.run(lambda: pair.client_handler.handshake is not None, 1)
        pair.network.rebind(pair.client_host, ("203.0.113.7", 7))
        pair.run(seconds=5)
        to = {destination for _, source, destination, _ in pair.network.sent if source == SERVER}
        assert to <= {CLIENT, ("203.0.113.7", 7)}
        assert not pair.server_handler.closes

    def test_a_migrated_connection_can_be_used_for_long(self, engines: Engines) -> None:
        """Connection IDs are replaced as they are used up (RFC 9000 section 5.1.1)."""
        pair = Scenario(engines, link=Link(loss=0.02)).handshake()
        for number in range(12):
            pair.network.rebind(pair.client_host, ("203.0.113.9", 1000 + number))
            pair.client.probe_path()
            pair.download(20 * KIB, seed=number)
            pair.run(seconds=0.5)
        used = {
            packet.destination_connection_id
            for packet in pair.packets(from_server=False)
            if packet.type is QuicPacketType.ONE_RTT
        }
        assert len(used) >= 12
