"""What a hostile peer can do to the engine beyond what every engine is asked in scenarios."""

import gc
import weakref
from typing import Any

import pytest
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import encode_quic_retry
from aioquic.tls import Epoch

from spooky._core.quic.errors import QuicError, TransportError
from spooky._core.quic.transport_parameters import TransportParameters, decode
from spooky.protocol.quic.certificates import CertificateSelector
from spooky.protocol.quic.engines import AIOQUIC, ENGINES
from spooky.protocol.quic.packet import VERSION_1, initial_token, parse_header
from spooky.protocol.quic.session import Address, Datagram, QuicSession
from tests.certificates import leaf, shared_ca
from tests.protocol.quic.forge import (
    Initials,
    client_hello,
    closed_with,
    crypto_frame,
    new_connection_id,
    packet,
    send,
    varint,
)
from tests.protocol.quic.support import identity_of
from tests.scenario.endpoints import Scenario
from tests.scenario.test_bad_input import half_open
from tests.simnet import CLIENT, SERVER

NATIVE = ENGINES["native"]
ELSEWHERE = ("203.0.113.77", 5555)
PING = b"\x01"


def established() -> Scenario:
    """Return an honest connection of aioquic's client to our server."""
    return Scenario((AIOQUIC, NATIVE)).handshake()


class TestTransportParameters:
    @pytest.mark.parametrize("size", [1 << 16, 1 << 32, (1 << 32) + 100, (1 << 62) - 1])
    def test_a_larger_datagram_than_there_can_be_is_the_largest(self, size: int) -> None:
        """Cut to 32 bits it would leave no room to send in."""
        said = TransportParameters()
        said.initial_source_connection_id = bytes(8)
        said.max_udp_payload_size = size
        assert decode(said.encode(), True).max_udp_payload_size == 65527

    @pytest.mark.parametrize("at", [0, 1, 9, 10, 11, 15])
    def test_a_version_0_is_malformed_wherever_it_stands(self, at: int) -> None:
        """RFC 9368 section 4."""
        versions = [VERSION_1] * 16
        versions[at] = 0
        said = b"".join(version.to_bytes(4, "big") for version in versions)
        parameters = b"\x0f\x00" + varint(0x11) + varint(len(said)) + said
        with pytest.raises(QuicError, match="version 0"):
            decode(parameters, True)

    @pytest.mark.parametrize(("id_length", "fine"), [(0, False), (8, True)])
    def test_a_server_without_connection_ids_has_no_preferred_address(
        self, id_length: int, fine: bool
    ) -> None:
        """RFC 9000 section 18.2."""
        address = bytes(24) + b"\x08" + bytes(8 + 16)
        said = b"\x0f" + varint(id_length) + bytes(id_length)
        said += b"\x0d" + varint(len(address)) + address
        if fine:
            decode(said, False)
            return
        with pytest.raises(QuicError) as caught:
            decode(said, False)
        assert caught.value.error_code == TransportError.TRANSPORT_PARAMETER_ERROR


class TestDeadlines:
    def test_an_acknowledgment_that_may_not_be_sent_is_not_waited_for(self) -> None:
        """The challenge took all that an unproven address is given (RFC 9000 section 8.1)."""
        pair = established()
        session, now = pair.server, pair.network.now
        session.receive([Datagram(packet(pair, PING + bytes(10)), ELSEWHERE)], now)
        for _ in range(50):
            session.flush(now)
            deadline = session.deadline()
            if deadline is None or deadline > now + 0.1:
                return
            now = max(now, deadline)
            session.expire(now)
        raise AssertionError("the deadline stays in the past")


class TestPadding:
    @pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 1000])
    @pytest.mark.parametrize("begins", [b"", PING])
    def test_what_stands_behind_padding_is_read(self, size: int, begins: bytes) -> None:
        """Padding is skipped in words, and a frame may begin at any byte of one."""
        pair = established()
        send(pair, begins + bytes(size) + b"\x1f")
        closed_with(pair, TransportError.FRAME_ENCODING_ERROR)


class TestRetirements:
    def test_an_id_that_was_not_announced_cannot_be_retired(self) -> None:
        """RFC 9000 section 19.16; it would have us make IDs, and list them, without end."""
        pair = established()
        held = len(pair.server_handler.issued)
        send(pair, b"".join(b"\x19" + varint(number) for number in range(1, 40)))
        assert len(pair.server_handler.issued) <= 2 * held
        closed_with(pair, TransportError.PROTOCOL_VIOLATION)

    def test_a_packet_cannot_retire_the_id_it_came_to(self) -> None:
        """RFC 9000 section 19.16."""
        pair = established()
        used = pair.client._quic._peer_cid.sequence_number  # type: ignore[attr-defined]
        send(pair, b"\x19" + varint(used))
        closed_with(pair, TransportError.PROTOCOL_VIOLATION)

    def test_an_id_cannot_be_issued_under_two_numbers(self) -> None:
        """RFC 9000 section 19.15."""
        pair = established()
        frames = [new_connection_id(number, 100, b"one-same") for number in (100, 101)]
        send(pair, *frames)
        [close] = pair.server_handler.closes
        assert close.error_code == TransportError.PROTOCOL_VIOLATION

    def test_repeated_retirements_count_once(self) -> None:
        """A peer that answers late has each repeated by a probe, and answers all of them."""
        pair = established()
        session, now, sequence = pair.server, pair.network.now, 100

        def retire(count: int) -> None:
            nonlocal sequence
            for _ in range(count):
                if pair.server_handler.closes:
                    return
                sequence += 1
                frame = new_connection_id(sequence, sequence)
                session.receive([Datagram(packet(pair, frame), CLIENT)], now)

        space = pair.client._quic._spaces[Epoch.ONE_RTT]  # type: ignore[attr-defined]
        largest = space.largest_received_packet
        retire(1)
        largest += len(session.flush(now))
        for _ in range(4):
            deadline = session.deadline()
            assert deadline is not None
            now = deadline
            session.expire(now)
            largest += len(session.flush(now))
        everything = b"\x02" + varint(largest) + b"\x00\x00" + varint(largest)
        session.receive([Datagram(packet(pair, everything), CLIENT)], now)
        retire(40)
        assert pair.server_handler.closes
        close = pair.server_handler.closes[0]
        assert close.error_code == TransportError.CONNECTION_ID_LIMIT_ERROR
        # The limit is 32 (CVE-2024-22189).
        assert sequence == 101 + 33


class TestConnectionIds:
    def test_a_peer_that_notes_no_retirement_ends_the_connection_not_the_caller(self) -> None:
        """CVE-2024-22189, where it is we who go on to the next."""
        pair = established()
        for number in range(100, 140):
            pair.server.probe_path()
            pair.server.flush(pair.network.now)
            if pair.server_handler.closes:
                break
            send(pair, new_connection_id(number, 0))
        [close] = pair.server_handler.closes
        assert close.error_code == TransportError.CONNECTION_ID_LIMIT_ERROR
        pair.server.probe_path()

    def test_an_id_that_was_retired_is_not_taken_again(self) -> None:
        """RFC 9000 section 19.15: a frame may be repeated, long after its ID was used."""
        pair = established()
        issued = list(pair.client._quic._host_cids)  # type: ignore[attr-defined]
        assert len(issued) > 3
        for _ in issued[1:]:
            pair.server.probe_path()
        for old in issued[1:-1]:
            frame = b"\x18" + varint(old.sequence_number) + b"\x00\x08" + old.cid
            send(pair, frame + old.stateless_reset_token)
        for _ in range(3):
            pair.server.probe_path()
            runs = pair.server.flush(pair.network.now)
            assert {run.payload[1:9] for run in runs} <= {issued[-1].cid}


def peer_in_the_end(session: QuicSession, now: float) -> Address:
    """Let a session do what is due, until it is back at its first peer or has nothing to do."""
    for _ in range(50):
        deadline = session.deadline()
        if deadline is None or session.peer == CLIENT:
            break
        now = max(now, deadline)
        session.expire(now)
        session.flush(now)
    return session.peer


class TestPaths:
    def test_forged_packets_from_elsewhere_displace_no_path(self) -> None:
        """RFC 9000 section 9.3.2: the proven address is where it goes back to."""
        pair = established()
        session, now = pair.server, pair.network.now
        session.receive([Datagram(packet(pair, PING), ELSEWHERE)], now)
        session.flush(now)
        assert session.peer == ELSEWHERE
        honest = packet(pair, PING)
        forged = honest[:-1] + bytes((honest[-1] ^ 1,))
        for port in range(10):
            session.receive([Datagram(forged, ("198.51.100.9", 1000 + port))], now)
        assert peer_in_the_end(session, now) == CLIENT

    def test_no_path_is_left_where_none_was_proven(self) -> None:
        pair = established()
        session, now = pair.server, pair.network.now
        for port in range(6):
            session.receive([Datagram(packet(pair, PING), ("198.51.100.9", 1000 + port))], now)
            session.flush(now)
        assert session.peer == ("198.51.100.9", 1005)
        assert peer_in_the_end(session, now) == CLIENT


class TestHandshakePackets:
    def test_a_retry_from_the_id_the_client_chose_is_dropped(self) -> None:
        """RFC 9000 section 17.2.5.1."""
        pair = Scenario((NATIVE, AIOQUIC))
        [run] = pair.client.flush(pair.network.now)
        header = parse_header(run.payload)
        assert header is not None

        def retry(source: bytes) -> list[Datagram]:
            payload = encode_quic_retry(
                version=VERSION_1,
                source_cid=source,
                destination_cid=header.source_connection_id,
                original_destination_cid=header.destination_connection_id,
                retry_token=b"token",
            )
            return [Datagram(payload, SERVER)]

        pair.client.receive(retry(header.destination_connection_id), pair.network.now)
        assert not pair.client.flush(pair.network.now)
        pair.client.receive(retry(b"fromelse"), pair.network.now)
        assert pair.client.flush(pair.network.now)

    @pytest.mark.parametrize(("size", "heeded"), [(1, True), (512, True), (513, False)])
    def test_a_token_of_a_retry_leaves_room_for_the_hello(self, size: int, heeded: bool) -> None:
        """It is repeated in each Initial, which is 1200 bytes long."""
        pair = Scenario((NATIVE, AIOQUIC))
        [run] = pair.client.flush(pair.network.now)
        header = parse_header(run.payload)
        assert header is not None
        retry = encode_quic_retry(
            version=VERSION_1,
            source_cid=b"fromelse",
            destination_cid=header.source_connection_id,
            original_destination_cid=header.destination_connection_id,
            retry_token=bytes(size),
        )
        pair.client.receive([Datagram(retry, SERVER)], pair.network.now)
        runs = pair.client.flush(pair.network.now)
        assert bool(runs) == heeded
        if heeded:
            assert initial_token(runs[0].payload) == bytes(size)

    @pytest.mark.parametrize(("token", "heeded"), [(b"", True), (b"token", False)])
    def test_a_servers_initial_has_no_token(self, token: bytes, heeded: bool) -> None:
        """RFC 9000 section 17.2.2."""
        pair = Scenario((NATIVE, AIOQUIC))
        [run] = pair.client.flush(pair.network.now)
        header = parse_header(run.payload)
        assert header is not None
        initial = Initial(header.destination_connection_id, header.source_connection_id)
        pair.client.receive([initial(b"from-one", token)], pair.network.now)
        assert (pair.client.statistics()["packets_received"] == 1) == heeded

    def test_later_packets_come_from_the_id_of_the_first(self) -> None:
        """RFC 9000 section 7.2."""
        pair = Scenario((NATIVE, AIOQUIC))
        [run] = pair.client.flush(pair.network.now)
        header = parse_header(run.payload)
        assert header is not None
        initial = Initial(header.destination_connection_id, header.source_connection_id)
        for source in (b"from-one", b"from-two", b"from-one"):
            pair.client.receive([initial(source)], pair.network.now)
        assert pair.client.statistics()["packets_received"] == 2


class Initial:
    """Initial packets of whoever saw a client's first one."""

    def __init__(self, original: bytes, destination: bytes) -> None:
        self._crypto = CryptoPair()
        self._crypto.setup_initial(cid=original, is_client=False, version=VERSION_1)
        self._destination = destination
        self._number = 0

    def __call__(self, source: bytes, token: bytes = b"") -> Datagram:
        """Protect a PING and padding."""
        payload = PING + bytes(1000)
        header = b"\xc1" + VERSION_1.to_bytes(4, "big")
        for connection_id in (self._destination, source):
            header += bytes((len(connection_id),)) + connection_id
        header += varint(len(token)) + token
        header += (0x4000 | 2 + len(payload) + 16).to_bytes(2, "big")
        header += self._number.to_bytes(2, "big")
        self._number += 1
        return Datagram(self._crypto.encrypt_packet(header, payload, self._number - 1), SERVER)


class TestDatagrams:
    @pytest.mark.parametrize("same", [True, False])
    def test_a_packet_for_another_id_than_the_first_is_dropped(self, same: bool) -> None:
        """RFC 9000 section 12.2: though it be one of the same connection."""
        initials = Initials()
        session, recorder = half_open(NATIVE, initials, PING)
        first = initials(PING).payload
        if not same:
            initials.destination = recorder.issued[0]
        joined = first + initials(b"\x1e").payload
        session.receive([Datagram(joined, CLIENT)], 1000.1)
        assert bool(recorder.closes) == same

    def test_goodbyes_to_an_address_that_is_not_proven_are_bounded(self) -> None:
        """RFC 9000 section 8.1: what answers the packets that come after the end, too."""
        initials, now = Initials(), 1000.0
        large = identity_of(leaf(["example.test"], shared_ca(), padding=12_000))
        hello = client_hello(initials.source)
        session, recorder = half_open(
            NATIVE, initials, crypto_frame(0, hello), certificates=CertificateSelector({}, large)
        )
        received, sent = 1200, 0

        def receive(payload: bytes) -> None:
            nonlocal received, sent
            session.receive([Datagram(payload, CLIENT)], now)
            received += len(payload)
            sent += sum(len(run.payload) for run in session.flush(now))

        receive(b"")
        assert 3000 < sent <= 3 * received
        session.receive([Datagram(bytes(100), CLIENT)], now)
        received += 100
        session.close(0, "", is_application=False)
        before = sent
        for _ in range(100):
            receive(bytes(1))
        assert recorder.closes
        assert before < sent <= 3 * received


class TestLimitsOfKeys:
    """RFC 9001 section 6.6, with AEADs that bear less than there are."""

    @pytest.mark.parametrize("limit", [3, 1 << 60], ids=["with a limit", "without one"])
    def test_forged_packets_of_a_handshake_count(self, limit: int) -> None:
        """Attack 40."""
        pair = Scenario((NATIVE, AIOQUIC))
        [run] = pair.client.flush(pair.network.now)
        header = parse_header(run.payload)
        assert header is not None
        initial = Initial(header.destination_connection_id, header.source_connection_id)
        pair.client.limit_forgeries(limit)  # type: ignore[attr-defined]
        for count in range(4):
            assert not pair.client_handler.closes, count
            forged = bytearray(initial(b"from-one").payload)
            forged[-1] ^= 1
            pair.client.receive([Datagram(bytes(forged), SERVER)], pair.network.now)
        pair.client.flush(pair.network.now)
        codes = [close.error_code for close in pair.client_handler.closes]
        assert codes == ([TransportError.AEAD_LIMIT_REACHED] if limit == 3 else [])

    def test_keys_of_a_handshake_are_used_up(self) -> None:
        """Nothing follows them, so the connection ends, with what they still may seal."""
        pair = Scenario((NATIVE, AIOQUIC))
        pair.network.drop = lambda source, payload: True
        # So many are kept to say so.
        pair.client.limit_sealing(64 + 3)  # type: ignore[attr-defined]
        assert pair.run(lambda: bool(pair.client_handler.closes), 20)
        [close] = pair.client_handler.closes
        assert close.error_code == TransportError.AEAD_LIMIT_REACHED


class TestMemory:
    def test_an_established_connection_keeps_nothing_that_only_its_handshake_needed(self) -> None:
        tls: Any = established().server.tls  # type: ignore[attr-defined]
        assert (tls._schedule, tls._client_random) == (None, b"")
        assert not hasattr(tls, "__dict__")

    @pytest.mark.parametrize("by_peer", [False, True])
    def test_a_closed_connection_is_freed_at_once(self, by_peer: bool) -> None:
        """Without the collector, which a busy worker runs seldom."""
        pair = established()
        session = pair.server
        (pair.client if by_peer else session).close(0, "", True)
        pair.closed()
        gone = weakref.ref(session)
        gc.disable()
        try:
            pair.server_host.session = None
            pair.server_handler.__dict__.clear()
            del session
            assert gone() is None
        finally:
            gc.enable()
