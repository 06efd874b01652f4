"""What gets through where packets are lost or late, against what the algorithms promise."""

import math
import statistics
from typing import Any, cast

import pytest

from spooky.protocol.quic.engines import Feature
from spooky.protocol.quic.session import Address
from tests.scenario.endpoints import Engines, Scenario
from tests.simnet import DEAD, SERVER, Link

KIB, MIB = 1024, 1024 * 1024

ETHERNET = 1472
"""What IPv4 leaves of 1,500 bytes to a UDP payload."""

OVERHEAD = 32
"""Of a full datagram: the packet's header and tag, and the STREAM frame's header; at most."""

GRAIN = 0.001
"""How often hosts are served, as by timers of milliseconds; seconds."""


def response_function(loss: float, round_trip: float, payload: int) -> float:
    """Return what NewReno carries where each packet is lost by chance; bytes per second.

    The square root formula with a packet acknowledged at a time (RFC 9438 section 4.1 has it as
    figure 1's AIMD). CUBIC is at least as fast (section 4.3).
    """
    return math.sqrt(1.5 / loss) * payload / round_trip


def goodput(
    engines: Engines, link: Link, size: int, algorithm: str = "cubic", *, upload: bool = False
) -> float:
    """Return the mean over seeds of what a transfer carries; bytes per second."""
    rates = []
    for seed in range(4):
        chosen = {"congestion_control": algorithm}
        pair = Scenario(engines, seed, link=link, client=chosen, server=chosen).handshake()
        pair.network.grain = GRAIN
        began = pair.network.now
        if upload:
            pair.upload(size)
        else:
            pair.download(size)
        rates.append(size / (pair.network.now - began))
    return statistics.fmean(rates)


def sizes(pair: Scenario, since: float) -> list[int]:
    """Return the sizes of the datagrams that the server sent since a time."""
    sent = pair.network.sent
    return [len(data) for time, source, _, data in sent if source == SERVER and time >= since]


@pytest.mark.needs(Feature.PATH_MTU_DISCOVERY)
class TestLosses:
    """aioquic comes as far, but takes its time to be simulated."""

    @pytest.mark.parametrize("upload", [False, True], ids=["download", "upload"])
    @pytest.mark.parametrize(
        ("algorithm", "loss", "latency", "share"),
        [
            ("cubic", 0.01, 0.010, 1.0),
            ("cubic", 0.01, 0.025, 1.0),
            ("reno", 0.01, 0.010, 0.85),
            ("reno", 0.01, 0.025, 0.85),
            # Of windows of five packets some are lost with all their acknowledgments.
            ("cubic", 0.05, 0.010, 0.7),
            ("reno", 0.05, 0.010, 0.6),
        ],
    )
    def test_as_much_gets_through_as_the_response_function_says(
        self,
        engines: Engines,
        upload: bool,
        algorithm: str,
        loss: float,
        latency: float,
        share: float,
    ) -> None:
        link = Link(latency=latency, loss=loss)
        size = 10 * MIB if loss < 0.02 else 3 * MIB
        expected = response_function(loss, 2 * latency, ETHERNET - OVERHEAD)
        assert goodput(engines, link, size, algorithm, upload=upload) > share * expected

    def test_a_lost_end_comes_with_the_first_probes(self, engines: Engines) -> None:
        """RFC 9002 section 6.2.4: both carry what is outstanding, where there is nothing new."""
        pair = Scenario(engines, link=Link(latency=0.020)).handshake()
        pair.download(300 * KIB)
        pair.run(seconds=1)
        dropped: list[float] = []

        def drop(source: Address, payload: bytes) -> bool:
            if source != SERVER or len(dropped) == 2 or len(payload) < 500:
                return False
            dropped.append(pair.network.now)
            return True

        pair.network.drop = drop
        taken = pair.download(2 * KIB, seed=1)
        assert len(dropped) == 2
        # A round trip, a probe timeout of another with 25 ms, and the way of the probes.
        assert taken < 0.040 + (0.040 + 0.025 + 0.010) + 0.020

    def test_silence_makes_datagrams_smaller_until_something_passes(self, engines: Engines) -> None:
        """RFC 8899 section 4.3: probe timeouts may mean that the path carries less, or nothing."""
        pair = Scenario(engines).handshake()
        stream = pair.start_download(30 * MIB)
        pair.network.link = Link(rate=2_000_000)
        pair.run(seconds=1)
        pair.network.link = DEAD
        pair.run(seconds=1)
        since = pair.network.now
        assert max(sizes(pair, since - 0.6)) == 1200
        pair.network.link = Link(rate=2_000_000)
        pair.run(seconds=2)
        assert max(sizes(pair, since + 1.5)) == ETHERNET
        pair.finish_download(stream, 30 * MIB)

    @pytest.mark.parametrize(("lost", "found"), [(2, ETHERNET), (3, 1336)])
    def test_a_size_is_tried_three_times(self, engines: Engines, lost: int, found: int) -> None:
        """RFC 8899 section 5.1.2, MAX_PROBES; then halfway."""
        pair = Scenario(engines, link=Link(rate=1_000_000))
        tried: list[int] = []

        def drop(source: Address, payload: bytes) -> bool:
            if source != SERVER or len(payload) <= 1200 or len(tried) == lost:
                return False
            tried.append(len(payload))
            return True

        pair.network.drop = drop
        pair.handshake()
        pair.download(500 * KIB)
        assert tried == [ETHERNET] * lost
        mtu = cast(Any, pair.server).statistics()["mtu"]
        assert found <= mtu <= ETHERNET
        assert (mtu == ETHERNET) == (lost == 2)

    @pytest.mark.parametrize("algorithm", ["cubic", "reno"])
    def test_a_window_that_is_never_empty_leaves_room_to_ask_for_more(
        self, engines: Engines, algorithm: str
    ) -> None:
        """The first to ask was lost, and by then there was content for more than the window."""
        chosen = {"congestion_control": algorithm}
        pair = Scenario(engines, link=Link(loss=0.05), server=chosen)
        dropped: list[bytes] = []

        def drop(source: Address, payload: bytes) -> bool:
            if source != SERVER or len(payload) <= 1200 or dropped:
                return False
            dropped.append(payload)
            return True

        pair.network.drop = drop
        pair.handshake()
        pair.download(300 * KIB)
        assert dropped
        assert max(sizes(pair, pair.network.now - 0.1)) == ETHERNET


@pytest.mark.needs(Feature.LATE_PACKETS, of="server")
class TestLatePackets:
    @pytest.mark.parametrize(
        "link",
        [
            Link(latency=0.015, rate=1_250_000, jitter=0.008),
            Link(latency=0.015, rate=1_250_000, jitter=0.015),
            Link(latency=0.015, rate=1_250_000, reorder=0.02),
        ],
        ids=["jitter", "much jitter", "held back"],
    )
    def test_they_cost_next_to_nothing(self, engines: Engines, link: Link) -> None:
        """RFC 9002 section 6.1.1: thresholds may follow what a path does."""
        straight = Link(latency=link.latency, rate=link.rate)
        rates = [goodput(engines, each, 2 * MIB) for each in (straight, link)]
        assert rates[1] > 0.85 * rates[0]

    @pytest.mark.needs(Feature.PATH_MTU_DISCOVERY, of="server")
    def test_they_make_no_datagrams_smaller(self, engines: Engines) -> None:
        """RFC 8899 section 4.3: a path lost its MTU where no later datagram of that size passes."""
        pair = Scenario(engines, link=Link(latency=0.010, jitter=0.004)).handshake()
        pair.network.grain = GRAIN
        pair.download(10 * MIB)
        assert cast(Any, pair.server).statistics()["mtu"] == ETHERNET

    def test_a_loss_among_them_still_counts(self, engines: Engines) -> None:
        link = Link(latency=0.010, jitter=0.004, loss=0.01)
        rate = goodput(engines, link, 4 * MIB)
        # As where none is late: the window is reduced for each, and each is sent again.
        assert rate < 2.5 * response_function(0.01, 0.024, ETHERNET - OVERHEAD)


@pytest.mark.needs(Feature.PATH_MTU_DISCOVERY, of="server")
class TestProofOfAddress:
    """A client has moved, and nothing proves its new address yet (RFC 9000 section 8.2)."""

    @pytest.mark.parametrize("seed", range(6))
    def test_losses_do_not_end_it(self, engines: Engines, seed: int) -> None:
        pair = Scenario(engines, seed, link=Link(loss=0.03)).handshake()
        for number in range(8):
            pair.network.rebind(pair.client_host, ("203.0.113.9", 1000 + number))
            pair.client.probe_path()
            pair.download(20 * KIB, seed=number, seconds=5)
            pair.run(seconds=0.5)

    @pytest.mark.parametrize("lost", ["challenge", "answer"])
    def test_it_is_asked_again_before_content_takes_the_room(
        self, engines: Engines, lost: str
    ) -> None:
        """Section 8.2.1: and not after three seconds, by when the client may have gone silent."""
        pair = Scenario(engines).handshake()
        pair.download(20 * KIB)
        address = ("203.0.113.9", 1000)
        pair.network.rebind(pair.client_host, address)
        began = pair.network.now
        dropped: list[bytes] = []

        def drop(source: Address, payload: bytes) -> bool:
            wanted = SERVER if lost == "challenge" else address
            early = lost == "answer" and pair.network.now < began + 0.015
            if source != wanted or dropped or early or pair.network.now == began:
                return False
            dropped.append(payload)
            return True

        pair.network.drop = drop
        assert pair.download(100 * KIB, seed=1) < 0.5
        assert dropped
