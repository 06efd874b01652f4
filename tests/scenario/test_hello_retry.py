"""A client that brings no key share of the server's groups is asked for one (RFC 8446 4.1.4)."""

from typing import Any

import pytest
from aioquic.quic.packet import QuicErrorCode, QuicPacketType
from aioquic.tls import AlertDescription, SessionTicket

from spooky.observe.segment import private_segment
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.packet import VERSION_1, VERSION_2
from spooky.protocol.quic.tickets import TicketStore
from tests.protocol.quic.forge import closed_with
from tests.protocol.quic.retried_hello import KEY_SHARE, RetriedHello, key_shares, with_extensions
from tests.protocol.quic.support import open_stream, upload
from tests.scenario.endpoints import Scenario, begin_with
from tests.scenario.frames import FrameType
from tests.simnet import CLIENT, Link

pytestmark = pytest.mark.needs(Feature.HELLO_RETRY, of="server")

KIB = 1024
P521 = 0x19


def begin(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, options: Any = None, **scenario: Any
) -> tuple[Scenario, list[RetriedHello]]:
    """A client on aioquic whose first hello brings a share of P-521 alone; it may begin again."""
    pair = Scenario((AIOQUIC, engine), **scenario)
    made: list[RetriedHello] = []
    begin_with(pair, monkeypatch, lambda tls: made.append(RetriedHello(tls, **(options or {}))))
    return pair, made


@pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_it_brings_one_and_is_served(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, loss: float, retry: bool
) -> None:
    link = Link(loss=loss, jitter=loss / 100)
    pair, hellos = begin(engine, monkeypatch, link=link, retry=retry)
    pair.handshake()
    pair.download(10 * KIB)
    assert hellos[-1].asked == [0x1D]
    assert not pair.server_handler.closes


def test_it_costs_one_round_trip_and_no_more_than_the_client_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, _ = begin(engine, monkeypatch, link=Link(latency=0.1))
    began = pair.network.now
    assert pair.run(lambda: bool(pair.client_handler.handshake), 5)
    assert pair.network.now - began == pytest.approx(0.4, abs=0.05)
    sent = [(source, payload) for _, source, _, payload in pair.network.sent]
    first_answer = [payload for source, payload in sent[:2] if source != CLIENT]
    assert [len(payload) for payload in first_answer] == [1200]


def test_it_is_followed_to_another_version(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is said in the version that the client began with (RFC 9369 section 4.1)."""
    client = {"versions": (VERSION_2, VERSION_1)}
    pair, hellos = begin(engine, monkeypatch, client=client)
    session: Any = pair.client
    session._quic._version = VERSION_1
    session._quic._connect(pair.network.now)
    pair.handshake().download(10 * KIB)
    assert pair.server_handler.handshake is not None
    assert pair.server_handler.handshake.version == VERSION_2
    assert hellos[-1].asked == [0x1D]
    assert pair.packets()[0].version == VERSION_1


def test_one_that_brings_the_wrong_share_again_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one request (RFC 8446 section 4.1.4)."""
    pair, hellos = begin(
        engine,
        monkeypatch,
        options={"change_second": lambda h: with_extensions(h, {KEY_SHARE: key_shares(P521)})},
    )
    closed_with(pair, QuicErrorCode.CRYPTO_ERROR + AlertDescription.illegal_parameter)
    assert hellos[-1].asked == [0x1D]


def test_a_session_is_resumed_without_its_early_data(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8446 section 4.2.10; what the client said early it says again."""
    tickets: list[SessionTicket] = []
    server = {"tickets": TicketStore(), "early_data": EarlyData(private_segment(), ())}
    Scenario((AIOQUIC, engine), client={"on_ticket": tickets.append}, server=server).handshake()
    client = {"ticket": tickets[0], "early_data": True}
    pair, hellos = begin(engine, monkeypatch, client=client, server=server)
    stream = open_stream(pair.client)
    upload(pair.client_handler, stream, b"early")
    pair.handshake()
    assert pair.run(lambda: stream in pair.server_handler.ended, 5)
    assert hellos[-1].offered_early_data
    assert any(p.type is QuicPacketType.ZERO_RTT for p in pair.packets(from_server=False))
    assert pair.server_handler.handshake is not None
    assert pair.server_handler.handshake.resumed
    assert pair.server_handler.handshake.early_data is False
    assert not pair.server_handler.early
    assert pair.server_handler.data[stream] == b"early"


def test_a_hello_that_is_never_followed_keeps_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's connection ends with its idle timeout, as with any hello."""
    pair, _ = begin(engine, monkeypatch, server={"idle_timeout": 5.0})
    asked = False

    def silent(source: object, payload: bytes) -> bool:
        nonlocal asked
        asked = asked or source != CLIENT
        return asked and source == CLIENT

    pair.network.drop = silent
    pair.run(seconds=30)
    assert pair.server.terminated
    sent = [p for p in pair.packets(from_server=True) if p.has(FrameType.CRYPTO)]
    assert {p.type for p in sent} == {QuicPacketType.INITIAL}


class TestOurClient:
    """It brings a share of P-384, which such a server has never heard of."""

    GROUPS = (0x18, 0x1D)

    def pair(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, **scenario: Any) -> Scenario:
        # Asked only where no share is of X25519.
        asks = "spooky.protocol.quic.tls_server.group_to_ask"
        monkeypatch.setattr(asks, lambda shares, supported: 0x1D)
        client = {"groups": self.GROUPS} | scenario.pop("client", {})
        return Scenario((engine, engine), client=client, **scenario)

    @pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
    @pytest.mark.parametrize("loss", [0.0, 0.3])
    def test_it_brings_another_when_asked(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch, loss: float, retry: bool
    ) -> None:
        link = Link(loss=loss, jitter=loss / 100)
        pair = self.pair(engine, monkeypatch, link=link, retry=retry).handshake()
        pair.download(10 * KIB)
        assert not pair.client_handler.closes

    def test_that_costs_one_round_trip(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = self.pair(engine, monkeypatch, link=Link(latency=0.1))
        began = pair.network.now
        assert pair.run(lambda: bool(pair.client_handler.handshake), 5)
        assert pair.network.now - began == pytest.approx(0.4, abs=0.05)

    def test_it_may_be_followed_by_another_version(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pair = self.pair(engine, monkeypatch, server={"versions": (VERSION_2,)}).handshake()
        pair.download(10 * KIB)
        assert pair.client_handler.handshake is not None
        assert pair.client_handler.handshake.version == VERSION_2

    def test_what_it_said_early_it_says_again(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And nothing more is sent in 0-RTT packets (RFC 8446 section 4.1.2)."""
        tickets: list[SessionTicket] = []
        server = {"tickets": TicketStore(), "early_data": EarlyData(private_segment(), ())}
        first = {"on_ticket": tickets.append}
        Scenario((engine, engine), client=first, server=server).handshake()
        client = {"ticket": tickets[0], "early_data": True}
        pair = self.pair(engine, monkeypatch, client=client, server=server, link=Link(latency=0.1))
        stream, later = open_stream(pair.client), open_stream(pair.client)
        upload(pair.client_handler, stream, b"early")
        pair.run(seconds=0.25)
        upload(pair.client_handler, later, b"not so early")
        pair.handshake()
        assert pair.run(lambda: {stream, later} <= pair.server_handler.ended, 5)
        assert pair.server_handler.data == {stream: b"early", later: b"not so early"}
        handshake = pair.client_handler.handshake
        assert handshake is not None
        assert handshake.resumed
        assert handshake.early_data is False
        kinds = [p.type for p in pair.packets(from_server=False)]
        assert QuicPacketType.ZERO_RTT in kinds[:2]
        assert QuicPacketType.ZERO_RTT not in kinds[2:]
