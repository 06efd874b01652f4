"""0-RTT packets: when they are taken, what may be in them, and what answers them (RFC 9001)."""

import dataclasses
from typing import Any

import pytest
from aioquic import tls
from aioquic.quic.packet import QuicErrorCode, QuicPacketType
from aioquic.tls import SessionTicket

from spooky.observe.segment import private_segment
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.tickets import TicketStore
from tests.protocol.quic.forge import (
    crypto_frame,
    new_connection_id,
    packet,
    send,
    stream_frame,
    varint,
)
from tests.protocol.quic.support import open_stream, upload
from tests.scenario.endpoints import Engines, Scenario
from tests.scenario.test_h3spec_transport import replaced
from tests.simnet import CLIENT, SERVER, Link

KIB = 1024

QUIC_PARAMETERS = 0x39
"""The TLS extension that has the transport parameters (RFC 9001 section 8.2)."""

pytestmark = pytest.mark.needs(Feature.EARLY_DATA, of="server")


class Server:
    """A server that takes 0-RTT data, and tickets of it."""

    def __init__(self, engines: Engines, **parameters: Any) -> None:
        self.engines = engines
        self.parameters: dict[str, Any] = {
            "tickets": TicketStore(),
            "early_data": EarlyData(private_segment(), ()),
        } | parameters

    def ticket(self) -> SessionTicket:
        tickets: list[SessionTicket] = []
        client = {"on_ticket": tickets.append}
        Scenario(self.engines, client=client, server=self.parameters).handshake()
        return tickets[0]

    def connect(self, ticket: SessionTicket, seed: int = 1, **more: Any) -> Scenario:
        """Begin a connection whose client sends 0-RTT data; nothing has left yet."""
        client = {"ticket": ticket, "early_data": True} | more.pop("client", {})
        return Scenario(
            self.engines, seed, client=client, server=self.parameters | more.pop("server", {}),
            **more,
        )  # fmt: skip


def came_early(pair: Scenario) -> bool:
    assert pair.server_handler.handshake is not None
    assert pair.server_handler.handshake.early_data is pair.server_handler.early
    return pair.server_handler.early


def early_packets(pair: Scenario) -> list[Any]:
    return [p for p in pair.packets() if p.type is QuicPacketType.ZERO_RTT]


class TestAcceptance:
    @pytest.mark.parametrize("seed", range(40))
    def test_transfers_end_on_a_rough_network(self, engines: Engines, seed: int) -> None:
        """Lost, doubled and overtaking: also 0-RTT packets before their hello, and after it all."""
        server = Server(engines)
        link = Link(loss=0.1, duplicate=0.1, reorder=0.2, jitter=0.01)
        pair = server.connect(server.ticket(), seed, link=link)
        stream = pair.start_download(20 * KIB)
        other = open_stream(pair.client)
        upload(pair.client_handler, other, bytes(40 * KIB))
        pair.finish_download(stream, 20 * KIB)
        assert pair.run(lambda: other in pair.server_handler.ended)
        assert pair.server_handler.data[other] == bytes(40 * KIB)

    @pytest.mark.parametrize("seed", range(5))
    def test_what_is_refused_is_sent_again(self, engines: Engines, seed: int) -> None:
        server = Server(engines)
        ticket = server.ticket()
        refusing = {"early_data": None}
        pair = server.connect(ticket, seed, server=refusing, link=Link(loss=0.05))
        stream = pair.start_download(20 * KIB)
        pair.finish_download(stream, 20 * KIB)
        assert not came_early(pair)
        assert early_packets(pair)

    def test_it_waits_for_the_rest_of_its_hello(self, engines: Engines) -> None:
        """A hello in two datagrams, of which the second comes last."""
        server = Server(engines)
        many = ("h3", *(f"{number:0>200}" for number in range(8)))
        pair = server.connect(server.ticket(), client={"alpn": many})
        stream = open_stream(pair.client)
        upload(pair.client_handler, stream, bytes(4 * KIB))
        flight = [
            run.payload[at : at + run.segment_size]
            for run in pair.client.flush(pair.network.now)
            for at in range(0, len(run.payload), run.segment_size)
        ]
        pair.network.drop = lambda source, payload: source == CLIENT and payload not in flight
        for payload in (flight[0], *flight[2:], flight[1]):
            pair.network.send(payload, CLIENT, SERVER)
        pair.run(seconds=0.2)
        assert pair.server_handler.early
        assert pair.server_handler.total(stream) == 4 * KIB

    def test_a_replay_is_refused_at_another_worker(self, engines: Engines) -> None:
        """RFC 9001 section 9.2: recorded, and sent to where nobody saw it before."""
        server = Server(engines)
        ticket = server.ticket()
        pair = server.connect(ticket)
        pair.start_download(KIB)
        assert pair.run(lambda: bool(pair.server_handler.data), 5)
        recorded = [payload for _, source, _, payload in pair.network.sent if source == CLIENT]
        victim = Scenario(engines, server=server.parameters)
        # What the victim's own client says is of no interest.
        victim.network.drop = lambda source, payload: source == CLIENT and payload not in recorded
        for payload in recorded:
            victim.network.send(payload, CLIENT, SERVER)
        victim.run(seconds=1)
        assert victim.server_host.session is not None
        assert not victim.server_handler.early
        assert not victim.server_handler.data

    @pytest.mark.needs(Feature.EARLY_DATA)
    def test_it_is_sent_again_after_a_retry(self, engines: Engines) -> None:
        """RFC 9000 section 17.2.5.3; aioquic's client loses it."""
        server = Server(engines)
        pair = server.connect(server.ticket(), retry=True)
        stream = pair.start_download(10 * KIB)
        pair.finish_download(stream, 10 * KIB)
        assert pair.run(lambda: pair.server_handler.handshake is not None, 1)
        assert came_early(pair)

    @pytest.mark.parametrize("who", ["stream_window", "connection_window", "max_streams_bidi"])
    def test_lower_limits_refuse_it(self, engines: Engines, who: str) -> None:
        """RFC 9000 section 7.4.1."""
        engine = engines[1]
        server = Server((AIOQUIC, engine))
        limits = {"stream_window": 65536, "connection_window": 65536, "max_streams_bidi": 100}
        server.parameters |= limits
        register = private_segment()
        server.parameters["early_data"] = EarlyData(register, tuple(limits.values()))
        ticket = server.ticket()
        lower = limits | {who: limits[who] // 2}
        pair = server.connect(
            ticket, server=lower | {"early_data": EarlyData(register, tuple(lower.values()))}
        ).handshake()
        assert not came_early(pair)

    @pytest.mark.needs(Feature.EARLY_DATA)
    @pytest.mark.parametrize("number", [*range(0x04, 0x0A), 0x0E])
    def test_a_server_that_takes_it_may_not_lower_what_it_relied_on(
        self, engines: Engines, number: int
    ) -> None:
        """RFC 9000 section 7.4.1."""
        server = Server(engines)
        ticket = server.ticket()
        more = [
            (kind, replaced(said, number, varint(1 << 40)) if kind == QUIC_PARAMETERS else said)
            for kind, said in ticket.other_extensions
        ]
        pair = server.connect(dataclasses.replace(ticket, other_extensions=more))
        assert pair.run(lambda: bool(pair.client_handler.closes), 5)
        [close] = pair.client_handler.closes
        assert (close.error_code, close.by_peer) == (QuicErrorCode.PROTOCOL_VIOLATION, False)


class TestAnswer:
    def test_nothing_beyond_three_times_what_came_is_sent(self, engines: Engines) -> None:
        """RFC 9000 section 8.1; a request in 0-RTT data does not prove an address."""
        server = Server(engines)
        pair = server.connect(server.ticket())
        said = 0

        def only_the_first_flight(source: object, payload: bytes) -> bool:
            nonlocal said
            if source != CLIENT:
                return True
            said += len(payload)
            return False

        pair.network.drop = only_the_first_flight
        pair.start_download(500 * KIB)
        pair.run(seconds=1)
        answered = sum(
            len(payload) for _, source, _, payload in pair.network.sent if source == SERVER
        )
        assert pair.server_handler.data
        assert answered <= 3 * said

    def test_an_answer_is_whole_before_the_client_proved_itself(self, engines: Engines) -> None:
        """RFC 9001 section 4.1.1: 1-RTT keys of the server are there with its Finished."""
        server = Server(engines)
        pair = server.connect(server.ticket())
        stream = pair.start_download(KIB)
        pair.network.drop = lambda source, payload: (
            source == CLIENT and pair.server_host.session is not None
        )
        assert pair.run(lambda: stream in pair.client_handler.ended, 2)
        assert pair.server_handler.handshake is None

    def test_a_close_before_the_handshake_ends_is_heard(self, engines: Engines) -> None:
        """RFC 9000 section 10.2.3."""
        server = Server(engines)
        pair = server.connect(server.ticket())
        stream = open_stream(pair.client)

        def refuse(stream_id: int, data: bytes, fin: bool) -> None:
            if stream_id == stream:
                pair.server.close(0x107, "no", is_application=True)

        pair.server_handler.on_data = refuse
        upload(pair.client_handler, stream, b"get")
        heard, _ = pair.closed()
        assert heard.by_peer


FORBIDDEN = {
    "ACK": b"\x02\0\0\0\0",
    "ACK with ECN counts": b"\x03\0\0\0\0\0\0\0",
    "CRYPTO": crypto_frame(0, b"x"),
    "NEW_TOKEN": b"\x07\x01x",
    "RETIRE_CONNECTION_ID": b"\x19\0",
    "PATH_RESPONSE": b"\x1b" + bytes(8),
    "HANDSHAKE_DONE": b"\x1e",
}

ALLOWED = {
    "PING": b"\x01",
    "RESET_STREAM": b"\x04" + varint(8) + varint(0) * 2,
    "STOP_SENDING": b"\x05" + varint(0) + varint(0),
    "STREAM": stream_frame(8, 0, b"x"),
    "MAX_DATA": b"\x10" + varint(1 << 20),
    "STREAMS_BLOCKED": b"\x16" + varint(100),
    "NEW_CONNECTION_ID": new_connection_id(40, 0),
    "PATH_CHALLENGE": b"\x1a" + bytes(8),
}


def half_way(engine: Engine) -> Scenario:
    """A client on aioquic whose hello the server has taken, and which does not know it yet."""
    server = Server((AIOQUIC, engine))
    pair = server.connect(server.ticket())
    pair.client.send(open_stream(pair.client), b"x", False)
    assert pair.run(lambda: pair.server_handler.early, 1)
    return pair


@pytest.mark.needs(Feature.EARLY_DATA)
class TestFrames:
    @pytest.mark.parametrize("frame", FORBIDDEN.values(), ids=FORBIDDEN)
    def test_what_a_client_cannot_say_yet_is_a_violation(
        self, engine: Engine, frame: bytes
    ) -> None:
        """RFC 9000 sections 12.4 and 12.5."""
        pair = half_way(engine)
        send(pair, frame, epoch=tls.Epoch.ZERO_RTT)
        assert pair.run(lambda: bool(pair.server_handler.closes), 5)
        assert pair.server_handler.closes[0].error_code == QuicErrorCode.PROTOCOL_VIOLATION

    @pytest.mark.parametrize("frame", ALLOWED.values(), ids=ALLOWED)
    def test_the_others_are_taken(self, engine: Engine, frame: bytes) -> None:
        pair = half_way(engine)
        send(pair, frame, epoch=tls.Epoch.ZERO_RTT)
        assert not pair.server_handler.closes

    def test_reserved_bits_are_a_violation(self, engine: Engine) -> None:
        """RFC 9000 section 17.2."""
        pair = half_way(engine)
        send(pair, b"\x01", epoch=tls.Epoch.ZERO_RTT, reserved=2)
        assert pair.run(lambda: bool(pair.server_handler.closes), 5)
        assert pair.server_handler.closes[0].error_code == QuicErrorCode.PROTOCOL_VIOLATION

    def test_a_forged_packet_is_dropped(self, engine: Engine) -> None:
        pair = half_way(engine)
        forged = bytearray(packet(pair, stream_frame(8, 0, b"x"), tls.Epoch.ZERO_RTT))
        forged[-1] ^= 1
        pair.network.send(bytes(forged), CLIENT, SERVER)
        pair.handshake()
        assert 8 not in pair.server_handler.data

    @pytest.mark.parametrize(("seconds", "taken"), [(0, True), (5, False)])
    def test_late_packets_are_taken_for_a_while(
        self, engine: Engine, seconds: float, taken: bool
    ) -> None:
        """RFC 9001 section 4.9.3."""
        pair = half_way(engine)
        client: Any = pair.client
        # A number that is not forgotten for being too old.
        client._quic._packet_number += 1000
        late = packet(pair, stream_frame(8, 0, b"late"), tls.Epoch.ZERO_RTT)
        client._quic._packet_number -= 1001
        assert pair.run(lambda: pair.server_handler.handshake is not None, 1)
        pair.run(seconds=seconds)
        pair.network.send(late, CLIENT, SERVER)
        pair.run(seconds=0.1)
        assert (8 in pair.server_handler.data) is taken
