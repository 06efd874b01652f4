"""Messages between a supervisor and its workers: typed, versioned."""

from collections.abc import Callable
from pathlib import Path

import pytest

from spooky import config
from spooky.edge import messages
from spooky.edge.messages import Drain, Drained, MessageError, Resolved, Start
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering, steering_table
from tests.support.proxy import configuration


def test_a_configuration_reaches_a_worker_as_it_was_loaded(tmp_path: Path) -> None:
    settings = configuration(tmp_path, "http://127.0.0.1:1")
    settings["load_balancing"] = {"type": "rr"}
    settings["resilience"] = {"protocol": {"allowed_methods": ["get"]}}
    loaded = config.from_mapping(settings)
    start = Start(
        3,
        7,
        loaded,
        {"file": b"\0\xff"},
        b"pem",
        Keys(2, b"a", (b"b",), b"c"),
        Steering((0, 1, 2), (4,), steering_table(range(4))),
        (0, 2),
        True,
        ("segment",),
    )
    assert messages.decode_for_worker(messages.encode(start)) == start


def test_messages_of_one_direction_are_not_taken_in_the_other() -> None:
    assert messages.decode_for_worker(messages.encode(Drain(1.5))) == Drain(1.5)
    with pytest.raises(MessageError):
        messages.decode_for_supervisor(messages.encode(Drain(1.5)))
    with pytest.raises(MessageError):
        messages.decode_for_worker(messages.encode(Drained(0)))


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\xc1", b"\0\x80", b"\1\x80", b"\1\x81\xa4type\1"])
def test_what_is_no_message_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        messages.decode_for_worker(data)


@pytest.mark.parametrize("decode", [messages.decode_for_worker, messages.decode_for_supervisor])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\1\x81\xa4type\xa5Rea\xa5R", id="a type that is no UTF-8"),
        pytest.param(b"\1" + b"\x81\xa1a" * 100_000, id="nested without end"),
    ],
)
def test_what_no_peer_of_ours_sends_is_refused_all_the_same(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    """Found by fuzzing: another error than the one foreseen went through the supervisor's loop."""
    with pytest.raises(MessageError):
        decode(data)


def test_another_version_is_named() -> None:
    data = messages.encode(Resolved("host", 1, ()))
    with pytest.raises(MessageError, match="speaks version 9"):
        messages.decode_for_worker(b"\x09" + data[1:])
