"""What clients send that is malformed, forged or against the protocol is counted, with a reason."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky._core.h3_frames import DATA, HEADERS
from spooky._core.h3_wire import encode_frame
from tests.attacks.wires import H2Wire, QuicWire, TcpWire, from_elsewhere
from tests.edge.test_ingress import run_with
from tests.edge.test_stateless import RawClient
from tests.protocol.h2.peers import raw_frame
from tests.protocol.h3.peers import GET, headers
from tests.protocol.quic.forge import crypto_frame, varint
from tests.support.proxy import Setup
from tests.support.waiting import until

METRICS = (
    "connections_closed_total",
    "connections_refused_total",
    "quic_packets_dropped_total",
    "requests_total",
)

HANDSHAKE_DONE = b"\x1e"
KEY_UPDATE = bytes.fromhex("18 000001 00")
RETRY, HANDSHAKE = b"\xf0", b"\xe0"
VERSION_1, UNKNOWN_VERSION = bytes(3) + b"\x01", b"\x1a\x2a\x3a\x4a"

Act = Callable[[QuicWire], Awaitable[Any]]


def reasons_counted(setup: Setup) -> dict[str, int]:
    """Return what was counted with a reason."""
    return {
        f"{name.metric} {labels.get('transport', '')} {labels['reason']}": count
        for name, count in setup.proxy.counters.snapshot()
        if count and name.metric in METRICS and "reason" in (labels := dict(name.labels))
    }


# --- what ends a connection, or a request -------------------------------------------------------


def forced(*frames: bytes) -> Act:
    async def act(wire: QuicWire) -> None:
        await wire.open()
        wire.force(*frames)
        await wire.until_closed()

    return act


def said(stream_id: int, data: bytes) -> Act:
    async def act(wire: QuicWire) -> None:
        await wire.open(http3=stream_id != 2)
        wire.say(stream_id, data)
        await wire.until_closed()

    return act


async def malformed_request(wire: QuicWire) -> None:
    await wire.open()
    wire.say(0, headers([*GET, (b"UPPER", b"x")]), True)
    await wire.until(lambda: 0 in wire.answered or 0 in wire.ended)
    await wire.close()


async def bad_parameter(wire: QuicWire) -> None:
    serialize = wire.quic._serialize_transport_parameters
    # An ack_delay_exponent above 20 (RFC 9000 section 18.2).
    wire.quic._serialize_transport_parameters = (  # type: ignore[method-assign]
        lambda: serialize() + varint(0x0A) + b"\x01\x15"
    )
    wire.on.send(*wire.client.begin(wire.on))
    await wire.until_closed()


async def no_protocol_in_common(wire: QuicWire) -> None:
    wire.quic.configuration.alpn_protocols = ["h9"]
    wire.on.send(*wire.client.begin(wire.on))
    await wire.until_closed()


CLOSED = "connections_closed_total quic client_protocol_error"
FAILED = "connections_refused_total  handshake_failed"

ENDS: dict[str, tuple[Act, str]] = {
    "a frame that is cut short": (forced(bytes(3) + b"\x08"), CLOSED),
    "a frame of servers": (forced(HANDSHAKE_DONE), CLOSED),
    "a TLS message that may not come": (forced(crypto_frame(0, KEY_UPDATE)), CLOSED),
    "rubbish on the control stream": (said(2, b"\x00" + encode_frame(DATA, b"rubbish")), CLOSED),
    "a field block that is none": (said(0, encode_frame(HEADERS, b"\xff" * 9)), CLOSED),
    "a field that is malformed": (malformed_request, "requests_total  bad_field_name"),
    "a bad transport parameter": (bad_parameter, FAILED),
    "a TLS alert": (no_protocol_in_common, FAILED),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_a_connection_or_request_ends_by_has_a_reason(tmp_path: Path, case: str) -> None:
    act, counted = ENDS[case]

    async def scenario(setup: Setup) -> None:
        with from_elsewhere(setup.proxy.port) as on:
            await act(QuicWire(on))
        await until(lambda: reasons_counted(setup))
        assert reasons_counted(setup) == {counted: 1}

    run_with(tmp_path, scenario)


def test_a_handshake_that_takes_too_long_has_a_reason_of_its_own(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        with from_elsewhere(setup.proxy.port) as on:
            client = RawClient()
            on.send(*client.begin(on))
            await on.receive()
            (connection,) = listener._connections
            connection._on_handshake_timer()
            await until(lambda: reasons_counted(setup))
        assert reasons_counted(setup) == {"connections_refused_total  handshake_timeout": 1}

    run_with(tmp_path, scenario)


# --- packets that are dropped -------------------------------------------------------------------


def long_header(wire: QuicWire, first: bytes, version: bytes, rest: bytes) -> bytes:
    """Return a packet to the connection that says it is from its client."""
    ids = (wire.quic._peer_cid.cid, wire.quic.host_cid)
    return first + version + b"".join(bytes((len(each),)) + each for each in ids) + rest


def forged(wire: QuicWire) -> bytes:
    return b"\x40" + wire.quic._peer_cid.cid + bytes(40)


def cut_short(wire: QuicWire) -> bytes:
    return long_header(wire, HANDSHAKE, VERSION_1, b"\x7f\xff" + bytes(40))


def of_a_server(wire: QuicWire) -> bytes:
    return long_header(wire, RETRY, VERSION_1, bytes(40))


def of_another_version(wire: QuicWire) -> bytes:
    return long_header(wire, HANDSHAKE, UNKNOWN_VERSION, b"\x40\x28" + bytes(40))


def too_late(wire: QuicWire) -> bytes:
    return long_header(wire, HANDSHAKE, VERSION_1, b"\x40\x28" + bytes(40))


def for_a_stranger(wire: QuicWire) -> bytes:
    return too_late(wire) + b"\x40" + b"\0nobody!" + bytes(40)


DROPS: dict[str, tuple[Callable[[QuicWire], bytes], list[str]]] = {
    "it is forged": (forged, ["forged_packet"]),
    "its length is beyond its end": (cut_short, ["bad_packet"]),
    "only servers send it": (of_a_server, ["bad_packet"]),
    "its version is not spoken": (of_another_version, ["unsupported_version"]),
    "its keys are gone": (too_late, ["undecryptable_packet"]),
    "it names no ID of ours": (for_a_stranger, ["undecryptable_packet", "unknown_connection"]),
}


async def dropped(wire: QuicWire, make: Callable[[QuicWire], bytes]) -> None:
    """Send a packet between the handshake and a request that is served."""
    await wire.open()
    wire.on.send(make(wire))
    wire.say(0, headers([*GET[:2], (b":authority", b"localhost"), GET[3]]), True)
    await wire.until(lambda: 0 in wire.answered)
    await wire.close()


@pytest.mark.skipif(not COMPILED, reason="aioquic does not say what it drops")
def test_packets_to_a_connection_that_are_dropped_have_a_reason(tmp_path: Path) -> None:
    """Nothing else comes of them, and the connection goes on."""

    async def scenario(setup: Setup) -> None:
        counted: dict[str, int] = {}
        for case, (make, reasons) in DROPS.items():
            with from_elsewhere(setup.proxy.port) as on:
                await dropped(QuicWire(on), make)
            for reason in reasons:
                name = f"quic_packets_dropped_total  {reason}"
                counted[name] = counted.get(name, 0) + 1
            await until(lambda: not setup.proxy.worker.listeners[0].quic._connections)
            found = reasons_counted(setup)
            found.pop("requests_total  completed")
            assert found == counted, case

    run_with(tmp_path, scenario)


# --- the same over TCP --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "reason"), [("h2", "client_protocol_error"), ("http/1.1", "bad_framing")]
)
def test_connections_over_tcp_are_counted_alike(tmp_path: Path, protocol: str, reason: str) -> None:
    async def scenario(setup: Setup) -> None:
        wire: TcpWire
        if protocol == "h2":
            wire = await H2Wire.open(setup.proxy.port)
            await wire.send(raw_frame(0, 0, 0, b"no stream has this number"))
        else:
            wire = await TcpWire.connect(setup.proxy.port, protocol)
            await wire.send(b"no request\r\n\r\n")
        await wire.until_closed()
        await wire.close()
        await until(lambda: reasons_counted(setup))
        assert reasons_counted(setup) == {f"connections_closed_total tcp {reason}": 1}

    run_with(tmp_path, scenario)
