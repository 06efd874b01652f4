"""Attacks on QUIC itself (rows 12 to 23 and 40) against a running proxy."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionId
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, pull_quic_header

from spooky._core.h3_frames import encode_varint
from spooky.protocol.quic.packet import parse_header
from tests.attacks.flooding import hello
from tests.attacks.floods_h3 import LOCAL_GET
from tests.attacks.ground import DENIED_HOST, MIB, RETRY_HOST, Ground
from tests.attacks.wires import QuicWire, arriving, from_elsewhere
from tests.edge.test_stateless import STRAY, RawClient, Wire, retried
from tests.protocol.h3.peers import headers
from tests.protocol.quic import forge
from tests.support.proxy import run

PING = b"\x01"
PATH_CHALLENGE = b"\x1a"
QUIET_SECONDS = 0.3


async def served(wire: QuicWire, number: int) -> None:
    """Make a request that is answered."""
    wire.say(4 * number, headers(LOCAL_GET), True)
    await wire.until(lambda: 4 * number in wire.answered)


def close_code(answer: bytes, destination: bytes) -> int:
    """Return the error of a CONNECTION_CLOSE that answers an Initial packet."""
    buffer = Buffer(data=answer)
    header = pull_quic_header(buffer, host_cid_length=8)
    crypto = CryptoPair()
    crypto.setup_initial(cid=destination, is_client=True, version=header.version)
    packet = answer[: header.packet_length]
    _, payload, _ = crypto.decrypt_packet(packet, buffer.tell(), 0)
    frames = Buffer(data=payload.lstrip(b"\0"))
    assert frames.pull_uint_var() == QuicFrameType.TRANSPORT_CLOSE
    return frames.pull_uint_var()


def parse_destination(datagram: bytes) -> bytes:
    """Return what a long header names as its destination."""
    header = parse_header(datagram)
    assert header is not None
    return header.destination_connection_id


async def received(on: Wire, seconds: float = QUIET_SECONDS) -> list[bytes]:
    """Return what comes until nothing comes for a time."""
    return [datagram async for datagram in arriving(on, seconds)]


# --- connections --------------------------------------------------------------------------------


def test_a_flood_of_retired_connection_ids_closes(proxy: Ground) -> None:
    """Row 17: our answers to them do not pile up (CVE-2024-22189)."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                # It is the proxy that is to have enough of it, and not the client.
                handlers = wire.quic._QuicConnection__frame_handlers  # type: ignore[attr-defined]
                handlers[0x19] = (
                    lambda context, kind, buffer: buffer.pull_uint_var(),
                    handlers[0x19][1],
                )
                for sequence in range(10, 300):
                    connection_id = sequence.to_bytes(8, "big")
                    # So that the client reads what is sent to it.
                    wire.quic._host_cids.append(QuicConnectionId(connection_id, sequence))
                    wire.force(forge.new_connection_id(sequence, sequence, connection_id))
                code = await wire.until_closed()
                assert code == QuicErrorCode.CONNECTION_ID_LIMIT_ERROR
            assert siege.memory < 8 * MIB

    run(scenario)


def test_challenges_are_answered_no_more_than_they_are_worth(proxy: Ground) -> None:
    """Row 18: responses do not queue up (CVE-2023-49295), and the connection lives."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                sent = wire.received_bytes
                for number in range(50):
                    wire.force(*(PATH_CHALLENGE + bytes((number, i)) * 4 for i in range(100)))
                await wire.hear(QUIET_SECONDS)
                assert wire.received_bytes - sent <= 2 * 50 * 1_200
                await served(wire, 0)
                await wire.close()
            assert siege.memory < 8 * MIB

    run(scenario)


def test_a_spoofed_path_gets_little_and_the_old_one_stays(proxy: Ground) -> None:
    """Row 19: what comes from elsewhere moves nothing before it is proven."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                wire.say(0, headers([*LOCAL_GET[:3], (b":path", b"/size/100000")]), True)
                speaker: Any = SimpleNamespace(client=SimpleNamespace(_quic=wire.quic))
                for _ in range(20):
                    with from_elsewhere(proxy.port) as elsewhere:
                        datagram = forge.packet(speaker, PING + bytes(100))
                        elsewhere.send(datagram)
                        answers = await received(elsewhere, 0.02)
                        assert sum(map(len, answers)) <= 3 * len(datagram)
                await wire.until(lambda: len(wire.answer(0)) > 100_000)
                await served(wire, 1)
                await wire.close()
            assert siege.memory < 8 * MIB

    run(scenario)


def test_acknowledging_what_was_not_sent_closes(proxy: Ground) -> None:
    """Row 20: an optimist is caught (RFC 9000 section 21.4)."""

    async def scenario() -> None:
        async with proxy.siege():
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                wire.force(b"\x02" + encode_varint(1_000_000) + bytes(3))
                assert await wire.until_closed() == QuicErrorCode.PROTOCOL_VIOLATION

    run(scenario)


def test_acknowledgements_of_many_ranges_cost_little(proxy: Ground) -> None:
    """Row 21: gaps in packet numbers, and frames full of ranges."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                for number in range(500):
                    wire.quic._packet_number += 1
                    wire.force(PING)
                    if number % 50 == 0:
                        await wire.hear()
                await served(wire, 0)
                wire.force(b"\x02" + encode_varint(400) + b"\0" + encode_varint(500) + bytes(1_001))
                # They go below 0.
                assert await wire.until_closed() == QuicErrorCode.FRAME_ENCODING_ERROR
            assert siege.memory < 8 * MIB

    run(scenario)


def test_early_data_is_not_taken_unless_it_is_allowed(proxy: Ground) -> None:
    """Row 23: nothing that was recorded can be sent again, as nothing is taken early."""

    async def scenario() -> None:
        async with proxy.siege():
            tickets: list[Any] = []
            with from_elsewhere(proxy.port) as on:
                wire = QuicWire(on)
                wire.quic._session_ticket_handler = tickets.append
                await wire.open()
                await wire.until(lambda: tickets)
                await wire.close()
            tickets[0].max_early_data_size = 0xFFFFFFFF
            with from_elsewhere(proxy.port) as on:
                wire = QuicWire(on)
                wire.client = RawClient(session_ticket=tickets[0])
                wire.quic = wire.client.quic
                before = proxy.proxy.origin.gate.requests["/count"]
                on.send(*wire.client.begin(on))
                wire.say(0, headers([*LOCAL_GET[:3], (b":path", b"/count")]), True)
                recorded = wire.client.pending()
                on.send(*recorded)
                await wire.until(lambda: 0 in wire.answered)
                assert not wire.quic.tls.early_data_accepted
                on.send(*recorded)
                await wire.hear(QUIET_SECONDS)
                assert proxy.proxy.origin.gate.requests["/count"] == before + 1
                await wire.close()

    run(scenario)


def test_key_updates_and_forgeries_do_no_harm(proxy: Ground) -> None:
    """Row 40: a key after each packet, and packets that no key fits."""

    async def scenario() -> None:
        source = random.Random(40)
        async with proxy.siege() as siege:
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                for _ in range(200):
                    on.send(b"\x41" + wire.quic._peer_cid.cid + source.randbytes(40))
                await served(wire, 0)
                for number in range(1, 30):
                    wire.quic.request_key_update()
                    wire.say(4 * number, headers(LOCAL_GET), True)
                    await wire.hear(0.01)
                    if wire.closed is not None:
                        break
                if wire.closed is None:
                    await wire.until(lambda: 4 * 29 in wire.answered)
                else:
                    assert wire.closed == QuicErrorCode.KEY_UPDATE_ERROR
                await wire.close()
            assert siege.memory < 8 * MIB

    run(scenario)


# --- before there is a connection ---------------------------------------------------------------


def test_crypto_beyond_what_is_kept_closes(proxy: Ground) -> None:
    """Row 12: nothing is kept for a handshake that claims to be a megabyte long."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True) as siege:
            for number in range(20):
                destination = b"crypto" + number.to_bytes(4, "big")
                with from_elsewhere(proxy.port) as on:
                    frame = forge.crypto_frame(1 << 20, b"x")
                    on.send(forge.Initials(destination)(frame).payload)
                    code = close_code(await on.receive(), destination)
                    assert code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
            assert siege.memory < 8 * MIB

    run(scenario)


def test_malformed_initials_crash_nothing(proxy: Ground) -> None:
    """Row 14: Initials cut, changed, and with frames of noise under good protection."""

    async def scenario() -> None:
        source = random.Random(14)
        async with proxy.siege(leaves_half_open=True) as siege:
            with from_elsewhere(proxy.port) as on:
                for number in range(300):
                    good = bytearray(hello(10_000 + number))
                    kind = number % 3
                    if kind == 0:
                        good = good[: source.randrange(1, len(good))]
                    elif kind == 1:
                        for _ in range(5):
                            good[source.randrange(len(good))] = source.randrange(256)
                    else:
                        initials = forge.Initials(b"noise" + number.to_bytes(4, "big"))
                        good = bytearray(initials(source.randbytes(200)).payload)
                    on.send(bytes(good))
                    if number % 50 == 0:
                        await received(on, 0.01)
            assert siege.memory < 16 * MIB

    run(scenario)


def test_malformed_transport_parameters_close(proxy: Ground) -> None:
    """Row 14: lengths that lie, a value twice, and one out of bounds (CVE-2026-31812)."""

    def varints(*values: int) -> bytes:
        return b"".join(encode_varint(value) for value in values)

    parameters = (
        varints(0x01, 200) + b"\0",
        varints(0x01, 1, 5, 0x01, 1, 5),
        varints(0x0A, 1, 30),
        varints(0x0E, 1, 1),
        varints(0x03, 2) + encode_varint(1_000),
        b"\xff",
    )

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True):
            for each in parameters:
                with from_elsewhere(proxy.port) as on:
                    wire = QuicWire(on)
                    quic: Any = wire.quic
                    good = quic._serialize_transport_parameters
                    quic._serialize_transport_parameters = lambda good=good, each=each: (
                        good() + each
                    )
                    on.send(*wire.client.begin(on))
                    code = await wire.until_closed()
                    # RFC 9001 section 8.2 has TLS alerts for what cannot be parsed.
                    assert code == QuicErrorCode.TRANSPORT_PARAMETER_ERROR or code >= 0x100, each

    run(scenario)


def test_an_unproven_address_gets_three_times_what_it_sent(proxy: Ground) -> None:
    """Row 15: with all repetitions; a datagram below 1,200 bytes gets nothing."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True):
            with from_elsewhere(proxy.port) as on, from_elsewhere(proxy.port) as small:
                first = hello(20_000)
                on.send(first)
                small.send(hello(20_001)[:1_199])
                answers = await received(on, 1.5)
                assert answers
                assert sum(map(len, answers)) <= 3 * len(first)
                assert await small.is_silent()

    run(scenario)


def test_stateless_resets_are_few_and_small(proxy: Ground) -> None:
    """Row 22: an oracle that stops to answer, and never says more than it was asked."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True):
            with from_elsewhere(proxy.port) as on:
                for _ in range(50):
                    on.send(*[STRAY + bytes(50)] * 20)
                    await asyncio.sleep(0.005)
                answers = await received(on)
                assert 0 < len(answers) < 500
                assert max(map(len, answers)) < len(STRAY) + 50

    run(scenario)


def test_a_token_of_a_retry_serves_who_it_was_given_to_once(proxy: Ground) -> None:
    """Row 16: neither another address nor a second connection gets anything for it."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True):
            with (
                from_elsewhere(proxy.port, RETRY_HOST) as on,
                from_elsewhere(proxy.port, RETRY_HOST) as other_port,
                from_elsewhere(proxy.port) as elsewhere,
            ):
                client = RawClient()
                with_token = await retried(client, on)
                for thief in (elsewhere, other_port):
                    thief.send(*with_token)
                    destination = parse_destination(with_token[0])
                    code = close_code(await thief.receive(), destination)
                    assert code == QuicErrorCode.INVALID_TOKEN
                await client.handshake(on, with_token)
                client.quic.close()
                on.send(*client.pending())

    run(scenario)


def test_who_is_dropped_costs_nothing(proxy: Ground) -> None:
    """Row 13: a rule, before any state."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True) as siege:
            with from_elsewhere(proxy.port, DENIED_HOST) as on:
                for number in range(1_000):
                    on.send(hello(30_000 + number))
                    if number % 100 == 0:
                        await asyncio.sleep(0.01)
                assert await on.is_silent()
            assert await proxy.counted("connections_refused_total", reason="source_dropped")
            assert siege.memory < 8 * MIB

    run(scenario)


def test_a_flood_of_hellos_turns_retry_on_and_its_end_off(proxy: Ground) -> None:
    """Row 13: after the first, hellos of whoever cannot hear the answer leave no state."""

    async def scenario() -> None:
        async with proxy.siege(leaves_half_open=True) as siege:
            number = 50_000
            for _ in range(30):
                with from_elsewhere(proxy.port) as on:
                    for _ in range(50):
                        number += 1
                        on.send(hello(number))
                    await received(on, 0.01)
                assert await proxy.counted("connections_active") <= proxy.half_open_max // 2
            assert await proxy.counted("quic_retry_active") == 1
            assert await proxy.counted("connections_refused_total", reason="flood_unproven") > 500
            # Who does hear it gets in.
            with from_elsewhere(proxy.port) as on:
                wire = await QuicWire(on).open()
                assert wire.quic._retry_count == 1
                await served(wire, 0)
                await wire.close()
            assert siege.memory < proxy.half_open_max * 64 * 1024

    run(scenario)


def test_nothing_is_left_of_handshakes_that_did_not_go_on(proxy: Ground) -> None:
    """Row 13: their time is over, all that they held is free again, and nobody is asked."""

    async def no_retry() -> bool:
        return not await proxy.counted("quic_retry_active")

    async def scenario() -> None:
        # Else the hellos leave nothing from the start.
        await proxy.until(no_retry)
        await proxy.until(proxy.is_calm)
        before = await proxy.counted("connections_active")
        with from_elsewhere(proxy.port) as on:
            on.send(*map(hello, range(60_000, 60_050)))
            await received(on)
        assert await proxy.counted("connections_active") == before + 50
        await proxy.until(proxy.is_calm)
        assert await no_retry()

    run(scenario)
