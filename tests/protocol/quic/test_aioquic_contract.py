"""The private names of aioquic that the adapter relies on, so that an update that moves one is seen
here first and not in a connection."""

import ast
import inspect
import random
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic import connection as aioquic_connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import QuicCongestionControl
from aioquic.quic.connection import Limit, QuicConnection, QuicConnectionId
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery
from aioquic.quic.stream import QuicStream, QuicStreamReceiver, QuicStreamSender

import spooky.protocol.quic
from spooky.protocol.quic.aioquic_streams import StreamWork, TrackedStream

METHODS = {
    (QuicConnection, "_alpn_handler"): ["alpn_protocol"],
    (QuicConnection, "_close_end"): [],
    (QuicConnection, "_consume_peer_cid"): [],
    (QuicConnection, "_find_network_path"): ["addr"],
    (QuicConnection, "_get_or_create_stream"): ["frame_type", "stream_id"],
    (QuicConnection, "_handle_ack_frame"): ["context", "frame_type", "buf"],
    (QuicConnection, "_handle_new_connection_id_frame"): ["context", "frame_type", "buf"],
    (QuicConnection, "_idle_timeout"): [],
    (QuicConnection, "_initialize"): ["peer_cid"],
    (QuicConnection, "_on_connection_limit_delivery"): ["delivery", "limit"],
    (QuicConnection, "_on_max_stream_data_delivery"): ["delivery", "stream"],
    (QuicConnection, "_parse_transport_parameters"): ["data", "from_session_ticket"],
    (QuicConnection, "_replenish_connection_ids"): [],
    (QuicConnection, "_stream_limit"): ["stream_id"],
    (QuicConnection, "_unblock_streams"): ["is_unidirectional"],
    (QuicConnection, "_write_connection_limits"): ["builder", "space"],
    (QuicConnection, "_write_stream_limits"): ["builder", "space", "stream"],
    (QuicConnection, "change_connection_id"): [],
    (QuicConnection, "close"): ["error_code", "frame_type", "reason_phrase"],
    (QuicConnection, "datagrams_to_send"): ["now"],
    (QuicConnection, "get_timer"): [],
    (QuicConnection, "handle_timer"): ["now"],
    (QuicConnection, "receive_datagram"): ["data", "addr", "now"],
    (QuicPacketRecovery, "on_ack_received"): ["ack_rangeset", "ack_delay", "now", "space"],
    (QuicStreamReceiver, "handle_frame"): ["frame"],
    (QuicStreamReceiver, "on_stop_sending_delivery"): ["delivery"],
    (QuicStreamReceiver, "stop"): ["error_code"],
    (QuicStreamSender, "on_data_delivery"): ["delivery", "start", "stop", "fin"],
    (QuicStreamSender, "on_reset_delivery"): ["delivery"],
    (QuicStreamSender, "reset"): ["error_code"],
    (QuicStreamSender, "write"): ["data", "end_stream"],
    (RangeSet, "add"): ["start", "stop"],
    (RangeSet, "shift"): [],
    (QuicCongestionControl, "on_packet_acked"): ["now", "packet"],
    (tls.Context, "_check_certificate_verify_signature"): ["verify"],
    (tls.Context, "_client_handle_certificate_verify"): ["input_buf"],
    (tls.Context, "_server_expect_finished"): [],
    (tls.Context, "_server_handle_certificate"): ["input_buf"],
    (tls.Context, "_server_handle_certificate_verify"): ["input_buf"],
    (tls.Context, "_server_handle_hello"): ["input_buf", "initial_buf", "handshake_buf"],
    (tls.Context, "handle_message"): ["input_data", "output_buf"],
    (tls, "pull_client_hello"): ["buf"],
}

CONNECTION_ATTRIBUTES = {
    "_close_at": type(None),
    "_close_event": type(None),
    "_configuration": QuicConfiguration,
    "_crypto_streams": dict,
    "_events": object,
    "_handshake_confirmed": bool,
    "_host_cid_seq": int,
    "_host_cids": list,
    "_is_client": bool,
    "_local_initial_source_connection_id": bytes,
    "_local_max_data": Limit,
    "_local_max_streams_bidi": Limit,
    "_local_max_streams_uni": Limit,
    "_local_next_stream_id_bidi": int,
    "_local_next_stream_id_uni": int,
    "_logger": object,
    "_loss": QuicPacketRecovery,
    "_max_datagram_size": int,
    "_network_paths": list,
    "_original_destination_connection_id": bytes,
    "_pacing_at": type(None),
    "_packet_number": int,
    "_peer_cid_available": list,
    "_ping_pending": list,
    "_remote_ack_delay_exponent": int,
    "_remote_active_connection_id_limit": int,
    "_remote_max_idle_timeout": type(None),
    "_remote_max_stream_data_bidi_local": int,
    "_remote_max_stream_data_bidi_remote": int,
    "_remote_max_stream_data_uni": int,
    "_remote_max_streams_bidi": int,
    "_remote_max_streams_uni": int,
    "_spaces": dict,
    "_state": aioquic_connection.QuicConnectionState,
    "_streams": dict,
    "_streams_queue": list,
    "_version": type(None),
    "host_cid": bytes,
}

OTHER_ATTRIBUTES = {
    "_cc": "QuicPacketRecovery",
    "_logger": "QuicPacketRecovery",
    "_rtt_smoothed": "QuicPacketRecovery",
    "_acked": "QuicStreamSender",
    "_buffer": "QuicStreamSender and QuicStreamReceiver",
    "_buffer_fin": "QuicStreamSender",
    "_pending": "QuicStreamSender",
    "_reset_error_code": "QuicStreamSender",
    "_stream_id": "QuicStreamSender and QuicStreamReceiver",
    "_ranges": "QuicStreamReceiver",
    "_peer_certificate": "tls.Context",
    "_peer_certificate_chain": "tls.Context",
    "_receive_buffer": "tls.Context",
    "_request_client_certificate": "tls.Context",
    "_supported_groups": "tls.Context",
}


def stock_connection() -> QuicConnection:
    return QuicConnection(configuration=QuicConfiguration())


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda value: str(value)[:60])
def test_methods_take_what_we_pass(owner: object, name: str) -> None:
    parameters = [p for p in inspect.signature(getattr(owner, name)).parameters if p != "self"]
    assert parameters == METHODS[owner, name]  # type: ignore[index]


@pytest.mark.parametrize("name", CONNECTION_ATTRIBUTES)
def test_connections_have_what_we_touch(name: str) -> None:
    assert isinstance(getattr(stock_connection(), name), CONNECTION_ATTRIBUTES[name])


def test_their_parts_have_what_we_touch() -> None:
    connection = stock_connection()
    for name in ("_cc", "_rtt_smoothed", "_logger", "congestion_window"):
        assert hasattr(connection._loss, name)
    stream = QuicStream(0)
    for name in ("_acked", "_buffer", "_buffer_fin", "_pending", "_reset_error_code", "_stream_id"):
        assert hasattr(stream.sender, name)
    for name in ("_buffer", "_ranges", "_stream_id", "highest_offset", "stop_pending"):
        assert hasattr(stream.receiver, name)
    for name, kind in {
        "_peer_certificate": type(None),
        "_peer_certificate_chain": list,
        "_receive_buffer": bytes,
        "_request_client_certificate": bool,
        "alpn_cb": type(None),
        "get_session_ticket_cb": type(None),
        "new_session_ticket_cb": type(None),
        "session_ticket": type(None),
    }.items():
        assert isinstance(getattr(tls.Context(is_client=False), name), kind)
    assert [*vars(Limit(1, "name", 5))] == ["frame_type", "name", "sent", "used", "value"]
    assert [*vars(QuicConnectionId(b"", 0))][:3] == [
        "cid",
        "sequence_number",
        "stateless_reset_token",
    ]
    assert hasattr(CryptoPair(), "key_phase")


def test_no_other_private_name_is_used() -> None:
    """What the sources touch and aioquic has, the tables above name."""
    connection = stock_connection()
    stream = QuicStream(0)
    theirs: set[str] = set()
    for thing in (
        connection,
        connection._loss,
        stream.sender,
        stream.receiver,
        tls.Context(is_client=False),
    ):
        theirs |= {name for name in dir(thing) if name[0] == "_" and name[:2] != "__"}
    named = {name for _, name in METHODS} | {*CONNECTION_ATTRIBUTES} | {*OTHER_ATTRIBUTES}
    for source in Path(spooky.protocol.quic.__path__[0]).glob("*.py"):
        used = {
            node.attr
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert used & theirs <= named, source.name


def test_streams_are_made_of_the_same_parts() -> None:
    """TrackedStream sets what QuicStream sets, without calling it."""
    ours = TrackedStream(4, StreamWork(), window=1, peer_window=2, readable=True, writable=False)
    theirs = QuicStream(4, 1, 2, True, False)
    assert {*vars(theirs)} | {"queued"} == {*vars(ours)}
    for name in ("max_stream_data_local", "max_stream_data_local_sent", "max_stream_data_remote"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.sender.is_finished
    assert not ours.receiver.is_finished


def test_a_set_of_streams_has_the_same_order_in_every_run() -> None:
    """aioquic serves streams in the order of a set, and a run is to be replayed from its seed."""
    for seed in range(5):
        numbers = list(range(0, 120, 4))
        random.Random(seed).shuffle(numbers)
        made = {
            TrackedStream(n, StreamWork(), window=1, peer_window=1, readable=True, writable=True)
            for n in numbers
        }
        assert [stream.stream_id for stream in made] == sorted(numbers)


def test_the_table_of_streams_is_walked_in_one_place() -> None:
    """StreamTable.values() gives streams with a limit due, and nobody else must ask."""
    source = inspect.getsource(QuicConnection)
    assert source.count("self._streams.values()") == 1
    assert "self._streams.items()" not in source
    assert "in self._streams:" not in source.replace("not in self._streams", "")
    place = inspect.getsource(QuicConnection._write_application)
    loop = "for stream in self._streams.values():\n                self._write_stream_limits("
    assert loop in place


def test_receivers_ask_four_things_of_their_ranges() -> None:
    source = inspect.getsource(QuicStreamReceiver)
    asked = {part.split("(")[0].split()[0] for part in source.split("self._ranges")[1:]}
    assert asked == {"=", ".add", "[0].start", ".shift"}


def test_streams_are_made_where_we_make_them() -> None:
    """Only for frames of the peer and calls of the application, both of which are ours."""
    makers = [
        name
        for name, method in vars(QuicConnection).items()
        if inspect.isfunction(method) and "QuicStream(" in inspect.getsource(method)
    ]
    assert sorted(makers) == [
        "_get_or_create_stream",
        "_get_or_create_stream_for_send",
        "_initialize",
    ]


def test_buffers_give_what_was_put_in() -> None:
    """The hello is read twice; the second reader must see it whole."""
    buffer = Buffer(data=b"hello")
    buffer.pull_uint8()
    assert buffer.data_slice(0, buffer.capacity) == b"hello"
