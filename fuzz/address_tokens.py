"""Tokens of Retry packets and of NEW_TOKEN frames, at the server that gave them and at the client.

The first byte chooses what becomes of the rest: the token of an Initial packet; a token of ours
that was changed, or that comes from elsewhere, too late or for another connection; a Retry with a
right integrity tag, for a client of each engine.
"""

from collections.abc import Iterator
from typing import Any

from aioquic.quic.packet import encode_quic_retry

from spooky.protocol.quic.engines import ENGINES
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.packet import VERSION_1, initial_token, parse_header
from spooky.protocol.quic.session import Datagram
from spooky.protocol.quic.tokens import (
    NEW_TOKEN_SECONDS,
    RETRY_TOKEN_SECONDS,
    TOKEN_MAX_BYTES,
    AddressTokens,
    InvalidTokenError,
    TokenStore,
)
from tests.protocol.quic.forge import varint
from tests.protocol.quic.support import Recorder, client_parameters
from tests.simnet import CLIENT, SERVER

TOKENS = AddressTokens(Keys(1, bytes(32), (b"p" * 32,), bytes(32)))
NOW = 1_700_000_000.0
ORIGINAL = b"original"
SOURCE = b"retrysrc"

PEERS = [CLIENT, ("10.0.0.1", 4434), ("::ffff:10.0.0.1", 4433), ("fe80::1%lo", 1), ("::", 0)]


def initial(token: bytes) -> bytes:
    """Return the start of an Initial packet, with a token."""
    head = b"\xc0" + VERSION_1.to_bytes(4, "big") + b"\x08" + SOURCE + b"\x00"
    return head + varint(len(token)) + token + bytes(8)


def seeds() -> Iterator[bytes]:
    """Yield something for each way that a token is taken."""
    for token in (b"", b"t", TOKENS.for_retry(CLIENT, ORIGINAL, SOURCE, NOW), bytes(300)):
        yield b"\0" + initial(token)
        yield b"\3" + token
    yield b"\0\xcb\x6b\x33\x43\xcf\x14" + bytes(20) + b"\x14" + bytes(20) + b"\x40\x02ab" + bytes(9)
    yield b"\1" + bytes((0, 0, 0, 5, 255))
    yield b"\1" + bytes((1, 60, 3, 0, 0))
    for kind in range(2):
        for peer in range(len(PEERS)):
            yield bytes((2, kind, peer, 40, kind)) + ORIGINAL * peer
    for engine in range(len(ENGINES)):
        yield bytes((3, engine, 8)) + SOURCE + b"a token"
        yield bytes((3, engine, 0)) + b"a token"
        yield bytes((3, engine, 20)) + bytes(20) + b"t" * 1500


def run(data: bytes) -> None:
    """Do what the first byte says."""
    kind, rest = (data[0] if data else 0) % 4, data[1:]
    (take_initial, take_changed, take_elsewhere, take_retry)[kind](rest)


def take_initial(datagram: bytes) -> None:
    """Find the token of what may be an Initial packet, and check it: it is none of ours."""
    header = parse_header(datagram)
    if header is None or not header.is_initial:
        return
    token = initial_token(datagram)
    if token is None:
        return
    assert token in datagram
    try:
        proof = TOKENS.check(token, CLIENT, header.destination_connection_id, VERSION_1, NOW)
    except InvalidTokenError:
        proof = None
    # The seed has one that was made now, for another port of this test's clock.
    assert proof is None or len(token) <= TOKEN_MAX_BYTES
    store = TokenStore(capacity=2)
    store.put("server", VERSION_1, token)
    assert store.take("server", VERSION_1) in (token, b"")


def take_changed(data: bytes) -> None:
    """Change a token of ours: no byte of it may be another one."""
    retry, position, *changes = data.ljust(3, b"\0")
    made = TOKENS.for_retry(CLIENT, ORIGINAL, SOURCE, NOW)
    made = made if retry % 2 else TOKENS.for_later(CLIENT, VERSION_1, NOW)
    changed = bytearray(made)
    at = position % len(made)
    changed[at : at + len(changes)] = bytes(changes)
    proof = TOKENS.check(bytes(changed), CLIENT, SOURCE, VERSION_1, NOW)
    assert (proof is not None) == (bytes(changed) == made)


def take_elsewhere(data: bytes) -> None:
    """Bring a token from some address, after some time, for some connection."""
    kind, peer, seconds, same, *original = data.ljust(4, b"\0")
    given_to, comes_from = PEERS[peer % len(PEERS)], PEERS[(peer >> 4) % len(PEERS)]
    source = SOURCE if same % 2 else SOURCE[::-1]
    now = NOW + (seconds - 8) * (1 if kind & 2 else 600)
    if kind % 2:
        token = TOKENS.for_retry(given_to, bytes(original[:20]), SOURCE, NOW)
        lifetime = RETRY_TOKEN_SECONDS
    else:
        token = TOKENS.for_later(given_to, VERSION_1, NOW)
        lifetime = NEW_TOKEN_SECONDS
    assert len(token) <= TOKEN_MAX_BYTES
    holds = now < NOW + lifetime and now >= NOW - 2 and host(given_to) == host(comes_from)
    if kind % 2:
        holds = holds and given_to[1] == comes_from[1] and source == SOURCE
    try:
        proof = TOKENS.check(token, comes_from, source, VERSION_1, now)
    except InvalidTokenError:
        assert kind % 2
        proof = None
    assert (proof is not None) == holds
    if proof is not None and kind % 2:
        assert proof.original_destination_connection_id == bytes(original[:20])


def host(peer: Any) -> str:
    """Return an address as all its spellings have it."""
    name = str(peer[0]).partition("%")[0]
    return name.removeprefix("::ffff:")


def take_retry(data: bytes) -> None:
    """Send a client a Retry; it answers with its token, or goes on as if nothing had come."""
    engine = list(ENGINES.values())[(data[0] if data else 0) % len(ENGINES)]
    length = data[1] % 21 if len(data) > 1 else 0
    source, token = data[2 : 2 + length], data[2 + length :]
    session = engine.client_session(client_parameters(), SERVER, "example.test", 0.0)
    handler = session.handler = Recorder()
    handler.session = session
    (first, *_) = session.flush(0.0)
    header = parse_header(first.payload)
    assert header is not None
    packet = encode_quic_retry(
        version=header.version or 0,
        source_cid=source,
        destination_cid=header.source_connection_id,
        original_destination_cid=header.destination_connection_id,
        retry_token=token,
    )
    session.receive([Datagram(packet, SERVER)], 0.01)
    answer = session.flush(0.02)
    tokens = {initial_token(run.payload) for run in answer}
    # RFC 9000 section 17.2.5.2: an empty token is no Retry; a long one may leave no room.
    if answer and tokens != {b""}:
        assert tokens == {token}
    # A second one is ignored, whatever it says.
    session.receive([Datagram(packet[:-1] + b"\0", SERVER)], 0.03)
    session.close(0, "", is_application=False)
    session.flush(0.04)
