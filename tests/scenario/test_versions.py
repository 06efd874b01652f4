"""Nobody between the endpoints chooses their QUIC version (RFC 9368 section 4)."""

import dataclasses
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType

from spooky._core.quic.errors import TransportError
from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.packet import VERSION_1, VERSION_2, parse_header
from tests.protocol.quic.forge import closed_with
from tests.scenario.endpoints import Engines, Scenario
from tests.scenario.test_h3spec_transport import replaced, with_parameters
from tests.simnet import CLIENT, SERVER

VERSION_INFORMATION = 0x11
BOTH = (VERSION_1, VERSION_2)
LONG_PROTOCOLS = tuple(f"{number:0200}" for number in range(6))
"""So many that a hello takes two datagrams."""


def forged(pair: Scenario, *offered: int, source: bytes | None = None) -> Scenario:
    """Let someone else answer the client's first hello, which the server never gets."""
    pair.network.drop = lambda source, _: source == CLIENT
    pair.run(seconds=0.001)
    header = parse_header(pair.network.sent[0][3])
    assert header is not None
    ids = header.source_connection_id, source or header.destination_connection_id
    answer = b"\xc0" + bytes(4) + b"".join(bytes((len(each),)) + each for each in ids)
    answer += b"".join(version.to_bytes(4, "big") for version in offered)
    pair.network.drop = lambda source, _: False
    pair.network.send(answer, SERVER, CLIENT)
    return pair


def encoded(*versions: int) -> bytes:
    return b"".join(version.to_bytes(4, "big") for version in versions)


def say_of_versions(monkeypatch: pytest.MonkeyPatch, information: bytes | None) -> None:
    """Let aioquic's servers say this; nothing as those that know RFC 9000 alone."""
    serialize = QuicConnection._serialize_transport_parameters

    def changed(self: Any) -> bytes:
        said = serialize(self)
        return said if self._is_client else replaced(said, VERSION_INFORMATION, information)

    monkeypatch.setattr(QuicConnection, "_serialize_transport_parameters", changed)


def starting_in_version_1(engine: Engine) -> Engine:
    """Return an engine whose clients prefer version 2, and say so in version 1."""

    def client_session(parameters: Any, *rest: Any) -> Any:
        from spooky.protocol.quic import native_session

        first = dataclasses.replace(parameters, versions=BOTH)
        make = native_session.ClientSession

        class Preferring(make):  # type: ignore[misc, valid-type]
            def __init__(self, *values: Any) -> None:
                super().__init__(values[0], parameters, *values[2:])

        native_session.ClientSession = Preferring  # type: ignore[misc]
        try:
            return engine.client_session(first, *rest)
        finally:
            native_session.ClientSession = make  # type: ignore[misc]

    return dataclasses.replace(engine, client_session=client_session)


@pytest.mark.needs(Feature.FORGED_NEGOTIATION, of="client")
class TestForgedNegotiation:
    def test_a_server_that_speaks_what_the_client_prefers_gives_it_away(
        self, engines: Engines
    ) -> None:
        """Our servers go on in the version preferred; the client was made to begin in another."""
        pair = forged(Scenario(engines, client={"versions": BOTH}), VERSION_2)
        assert pair.run(lambda: bool(pair.client_handler.closes), 5), "it tries for ever"
        assert pair.client_handler.closes[0].error_code == TransportError.VERSION_NEGOTIATION_ERROR
        assert not pair.client_handler.closes[0].by_peer
        assert pair.client_handler.handshake is None

    def test_a_server_without_version_information_is_not_believed(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if engines[1] is not AIOQUIC:
            pytest.skip("our servers have it")
        say_of_versions(monkeypatch, None)
        # It has no reason to prefer another.
        pair = Scenario(engines, client={"versions": BOTH}, server={"versions": (VERSION_2,)})
        forged(pair, VERSION_2)
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        assert pair.client_handler.closes[0].error_code == TransportError.VERSION_NEGOTIATION_ERROR

    def test_a_server_that_says_it_speaks_nothing_is_not_believed(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9368 section 4: though it goes on in the version that it was begun in anew."""
        if engines[1] is not AIOQUIC:
            pytest.skip("our servers say what they speak")
        say_of_versions(monkeypatch, encoded(VERSION_2))
        pair = Scenario(engines, client={"versions": BOTH}, server={"versions": (VERSION_2,)})
        forged(pair, VERSION_2)
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        assert pair.client_handler.closes[0].error_code == TransportError.VERSION_NEGOTIATION_ERROR

    def test_a_server_of_version_1_alone_need_not_know_of_versions(
        self, engines: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9368 section 8."""
        if engines[1] is not AIOQUIC:
            pytest.skip("our servers have it")
        say_of_versions(monkeypatch, None)
        versions = {"versions": (VERSION_2, VERSION_1)}
        pair = Scenario(engines, client=versions, server={"versions": (VERSION_1,)}).handshake()
        kinds = [packet.type for packet in pair.packets(from_server=True)]
        assert kinds[0] is QuicPacketType.VERSION_NEGOTIATION
        assert pair.client_handler.handshake is not None
        assert pair.client_handler.handshake.version == VERSION_1

    def test_one_from_another_id_is_ignored(self, engines: Engines) -> None:
        """RFC 8999 section 6."""
        pair = forged(Scenario(engines, client={"versions": BOTH}), VERSION_2, source=b"guessing")
        pair.handshake()
        assert pair.client_handler.handshake is not None
        assert pair.client_handler.handshake.version == VERSION_1

    def test_one_with_nothing_in_common_ends_it(self, engines: Engines) -> None:
        """RFC 9368 section 2.1."""
        pair = forged(Scenario(engines, client={"versions": BOTH}), 0x1A2A3A4A)
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        assert not pair.client_handler.closes[0].by_peer

    def test_a_second_one_is_ignored(self, engines: Engines) -> None:
        """It cannot make a client begin again and again."""
        pair = Scenario(engines, client={"versions": BOTH}, server={"versions": (VERSION_2,)})
        forged(pair, VERSION_2)
        forged(pair, VERSION_1)
        pair.handshake()
        assert pair.client_handler.handshake is not None
        assert pair.client_handler.handshake.version == VERSION_2


def test_a_server_without_version_information_is_fine_in_the_first_version(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may know RFC 9000 alone."""
    if engines[1] is not AIOQUIC:
        pytest.skip("our servers have it")
    say_of_versions(monkeypatch, None)
    Scenario(engines, client={"versions": BOTH}).handshake().download(2000)


@pytest.mark.parametrize("available", [(), (VERSION_2,)], ids=["none", "another"])
def test_a_client_whose_version_is_not_among_its_own_is_refused(
    engine: Engine, available: tuple[int, ...]
) -> None:
    said = encoded(VERSION_1, *available)
    pair = with_parameters(engine, lambda p: replaced(p, VERSION_INFORMATION, said))
    closed_with(pair, TransportError.TRANSPORT_PARAMETER_ERROR)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        encoded(VERSION_1)[1:],
        encoded(VERSION_1, VERSION_1) + b"\0",
        encoded(0, VERSION_1),
        encoded(VERSION_1, VERSION_1, 0),
    ],
    ids=["nothing", "too short", "too long", "chosen 0", "available 0"],
)
def test_version_information_that_cannot_be_read_is_refused(engine: Engine, said: bytes) -> None:
    """RFC 9368 section 4."""
    pair = with_parameters(engine, lambda p: replaced(p, VERSION_INFORMATION, said))
    closed_with(pair, TransportError.TRANSPORT_PARAMETER_ERROR)


def test_a_client_that_says_another_version_than_it_uses_is_refused(engine: Engine) -> None:
    """RFC 9368 section 4."""
    said = encoded(VERSION_2, *BOTH)
    pair = with_parameters(engine, lambda p: replaced(p, VERSION_INFORMATION, said))
    closed_with(pair, TransportError.VERSION_NEGOTIATION_ERROR)


def test_a_client_may_name_any_number_of_versions(engine: Engine) -> None:
    """Its own may be the last of them (RFC 9368 section 3)."""
    reserved = [0x0A0A0A0A + (number << 28) for number in range(15)]
    said = encoded(VERSION_1, *reserved, *reserved, VERSION_1)
    pair = with_parameters(engine, lambda p: replaced(p, VERSION_INFORMATION, said)).handshake()
    assert pair.server_handler.handshake is not None
    assert pair.server_handler.handshake.version == VERSION_1


@pytest.mark.parametrize("versions", [BOTH, (VERSION_2, VERSION_1)], ids=["1 first", "2 first"])
def test_a_client_that_names_its_own_version_alone_is_served_in_it(
    engine: Engine, versions: tuple[int, ...]
) -> None:
    """RFC 9368 section 2.3: that is how it wants no other."""
    said = encoded(VERSION_1, VERSION_1)
    pair = with_parameters(
        engine, lambda p: replaced(p, VERSION_INFORMATION, said), versions=versions
    ).handshake()
    assert {packet.version for packet in pair.packets() if packet.version} == {VERSION_1}


@pytest.mark.needs(Feature.FORGED_NEGOTIATION, of="client")
class TestCompatibleNegotiation:
    """Our client begins in version 1, and prefers version 2 (RFC 9368 section 2.3)."""

    @pytest.fixture
    def preferring(self, engines: Engines) -> Engines:
        return starting_in_version_1(engines[0]), engines[1]

    @pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
    @pytest.mark.parametrize("protocols", [(), LONG_PROTOCOLS], ids=["", "long"])
    def test_our_client_follows_to_the_version_it_prefers(
        self, preferring: Engines, retry: bool, protocols: tuple[str, ...]
    ) -> None:
        client = {"versions": (VERSION_2, VERSION_1), "alpn": ("h3", *protocols)}
        pair = Scenario(preferring, client=client, retry=retry)
        first = True

        def late(source: object, payload: bytes) -> bool:
            """Lose the second half of a long hello once, so that its first is acknowledged."""
            nonlocal first
            seen = sum(source == CLIENT for _, source, _, _ in pair.network.sent)
            lost = bool(protocols) and first and source == CLIENT and seen == 2 + 2 * retry
            first = first and not lost
            return lost

        pair.network.drop = late
        pair.handshake()
        pair.download(2000)
        for handler in (pair.client_handler, pair.server_handler):
            assert handler.handshake is not None
            assert handler.handshake.version == VERSION_2
        packets = pair.packets()
        assert packets[0].version == VERSION_1
        assert all(p.type is not QuicPacketType.VERSION_NEGOTIATION for p in packets)

    def test_one_that_offers_what_the_client_began_with_is_ignored(
        self, preferring: Engines
    ) -> None:
        """Though it offers what it prefers, too: no server would send it."""
        pair = Scenario(preferring, client={"versions": (VERSION_2, VERSION_1)})
        forged(pair, VERSION_2, VERSION_1)
        pair.handshake()
        initials = [p for p in pair.packets(from_server=False) if p.type is QuicPacketType.INITIAL]
        assert [p.version for p in initials[:2]] == [VERSION_1, VERSION_1]

    def test_a_server_that_says_another_version_than_it_uses_is_refused(
        self, preferring: Engines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if preferring[1] is not AIOQUIC:
            pytest.skip("our servers say what they use")
        say_of_versions(monkeypatch, encoded(VERSION_1))
        pair = Scenario(preferring, client={"versions": (VERSION_2, VERSION_1)})
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        assert pair.client_handler.closes[0].error_code == TransportError.VERSION_NEGOTIATION_ERROR
