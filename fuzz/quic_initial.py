"""Initial packets of a client nobody knows: any frames, any hellos, before there is a handshake.

The first byte chooses the server's engine, the rest is packets as in ``quic_frames``.
"""

import itertools
from collections.abc import Iterator

from aioquic.quic.packet import QuicErrorCode

from fuzz.quic_frames import NAMES, PACKETS_MAX, packets, packets_of
from spooky.protocol.quic.engines import ENGINES
from spooky.protocol.quic.packet import ConnectionIds, parse_header
from tests.protocol.quic.forge import Initials, client_hello, crypto_frame
from tests.protocol.quic.retried_hello import (
    KEY_SHARE,
    P521,
    SUPPORTED_GROUPS,
    X25519,
    key_shares,
    with_extensions,
)
from tests.protocol.quic.support import SLOT, Recorder, server_parameters
from tests.simnet import CLIENT

FRAMES_MAX_BYTES = 1100
"""What an Initial of a full datagram has room for."""


def seeds() -> Iterator[bytes]:
    """Yield hellos, whole, in pieces and said twice, and what is no hello."""
    whole = client_hello()
    half = len(whole) // 2
    groups = {SUPPORTED_GROUPS: b"\0\x04\0\x19\0\x1d"}
    first = with_extensions(whole, groups | {KEY_SHARE: key_shares(P521)})
    again, wrong = (
        with_extensions(whole, groups | {KEY_SHARE: key_shares(group)}) for group in (X25519, P521)
    )
    conversations = [
        packets(crypto_frame(0, whole)),
        packets(crypto_frame(half, whole[half:]), crypto_frame(0, whole[:half])),
        packets(crypto_frame(0, whole), b"\x01", b"\x02\0\0\0\0"),
        packets(crypto_frame(0, first), crypto_frame(len(first), again)),
        packets(crypto_frame(0, first), crypto_frame(len(first), wrong)),
        packets(crypto_frame(0, b"\x01\0\0\x04abcd")),
        packets(crypto_frame(0, whole[:half]), b"\x1c\x01\0\0"),
        packets(b"\x08\0x"),
    ]
    for index in range(len(NAMES)):
        yield from (bytes((index,)) + conversation for conversation in conversations)


def run(data: bytes) -> None:
    """Send the packets and see how the server took them."""
    engine = ENGINES[NAMES[(data[0] if data else 0) % len(NAMES)]]
    initials, now, received, answered = Initials(), 1000.0, 0, 0
    session = None
    handler = Recorder()
    for frames in itertools.islice(packets_of(data), PACKETS_MAX):
        first = initials(frames[:FRAMES_MAX_BYTES])
        if session is None:
            header = parse_header(first.payload)
            assert header is not None
            session = engine.server_session(
                server_parameters(), header, CLIENT, now, ConnectionIds(SLOT).make
            )
            session.handler = handler
            handler.session = session
        session.receive([first], now)
        received += len(first.payload)
        answered += sum(len(transmit.payload) for transmit in session.flush(now))
        assert answered <= 3 * received
        now += 0.02
    for close in handler.closes:
        assert close.by_peer or close.error_code != QuicErrorCode.INTERNAL_ERROR, close
