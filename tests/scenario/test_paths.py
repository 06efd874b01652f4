"""Which addresses of its client a server remembers, and goes back to (RFC 9000 section 9.3)."""

import pytest

from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.session import Address, Datagram
from tests.protocol.quic.forge import packet
from tests.scenario.endpoints import Scenario
from tests.scenario.frames import FrameType
from tests.simnet import CLIENT, SERVER

pytestmark = pytest.mark.needs(Feature.ID_PER_PATH, of="server")

HOME = CLIENT
AWAY: Address = ("203.0.113.7", 4433)
SPOOFED: Address = ("203.0.113.66", 6666)
PING, PATH_CHALLENGE, PATH_RESPONSE = b"\x01", b"\x1aasked it", b"\x1b"
FULL = bytes(1100)
"""Padding for a packet of which three may be sent back in full."""


class Client:
    """One that sends from where it likes, and hears what it wants to."""

    def __init__(self, engine: Engine) -> None:
        self.pair = Scenario((AIOQUIC, engine)).handshake()
        self.pair.run(seconds=0.1)
        self.server, self.now = self.pair.server, self.pair.network.now

    def say(self, frames: bytes, source: Address) -> None:
        self.server.receive([Datagram(packet(self.pair, frames), source)], self.now)

    def asked(self) -> dict[Address, tuple[bytes, int]]:
        """Return what the server asks now, by address, and the size of the datagram that does."""
        network = self.pair.network
        sizes: list[int] = []
        for run in self.server.flush(self.now):
            for at in range(0, len(run.payload), run.segment_size):
                payload = run.payload[at : at + run.segment_size]
                network.sent.append((self.now, SERVER, run.destination, payload))
                sizes.append(len(payload))
        packets = self.pair.packets(from_server=True)
        return {
            sent.destination: (frame.data, size)
            for sent, size in zip(packets[len(packets) - len(sizes) :], sizes, strict=True)
            for frame in sent.frames
            if frame.type is FrameType.PATH_CHALLENGE
        }

    def answer(self, *addresses: Address) -> list[int]:
        """Answer what is asked of these addresses, from there; return the datagrams' sizes."""
        asked = self.asked()
        for address in addresses:
            self.say(PATH_RESPONSE + asked[address][0], address)
        return [asked[address][1] for address in addresses]

    def wait(self, seconds: float = 15.0) -> None:
        """Let the server do what is due, hearing nothing."""
        end = self.now + seconds
        while (due := self.server.deadline()) is not None and due < end:
            self.now = max(self.now, due)
            self.server.expire(self.now)
            self.server.flush(self.now)


def test_an_address_that_answered_is_kept_until_another_is_proven(engine: Engine) -> None:
    """However long that takes: nothing but its answer came from there."""
    client = Client(engine)
    client.say(PING + FULL, SPOOFED)
    assert client.server.peer == SPOOFED
    client.answer(HOME)
    client.wait(5)
    client.say(PING + FULL, AWAY)
    client.wait()
    assert client.server.peer == HOME
    assert not client.pair.server_handler.closes


def test_the_address_that_was_proven_last_is_gone_back_to(engine: Engine) -> None:
    """RFC 9000 section 9.3.2."""
    client = Client(engine)
    client.say(PING + FULL, AWAY)
    client.answer(HOME, AWAY)
    client.say(PING + FULL, SPOOFED)
    assert client.server.peer == SPOOFED
    client.wait()
    assert client.server.peer == AWAY


def test_addresses_in_any_number_leave_the_proven_one(engine: Engine) -> None:
    client = Client(engine)
    for number in range(20):
        client.say(PING, (SPOOFED[0], 1000 + number))
        client.say(PATH_CHALLENGE, (SPOOFED[0], 2000 + number))
        client.server.flush(client.now)
    client.wait()
    assert client.server.peer == HOME


def test_an_address_asked_with_little_is_asked_again_in_full(engine: Engine) -> None:
    """RFC 9000 section 8.2.1: that the peer is there does not say what the path carries."""
    client = Client(engine)
    client.say(PING + bytes(20), AWAY)
    [small] = client.answer(AWAY)
    assert small < 1200
    assert client.answer(AWAY) == [1200]
    assert AWAY not in client.asked()
    client.wait()
    assert client.server.peer == AWAY


def test_an_address_that_full_datagrams_do_not_reach_is_left(engine: Engine) -> None:
    client = Client(engine)
    client.say(PING + bytes(20), AWAY)
    client.answer(HOME, AWAY)
    client.wait()
    assert client.server.peer == HOME
