"""Tokens that prove a client's address (RFC 9000 section 8.1): made, checked, kept.

A server gives them in Retry packets, for the connection that is about to begin, and in NEW_TOKEN
frames, for later ones. They are sealed under keys that all workers share, so that any of them can
check what another gave.
"""

import ipaddress
import struct
from collections import OrderedDict, deque
from enum import IntEnum
from typing import Final, NamedTuple

from spooky.protocol.quic.keys import TOKEN, Keys
from spooky.protocol.quic.packet import CONNECTION_ID_LENGTH, CONNECTION_ID_MAX_LENGTH
from spooky.protocol.quic.sealing import NONCE_BYTES, TAG_BYTES, make_sealer
from spooky.protocol.quic.session import Address

RETRY_TOKEN_SECONDS: Final = 15.0
"""How long the token of a Retry serves: clients return it at once, and only a few losses in a row
can delay that for longer (RFC 9000 section 8.1.3)."""

NEW_TOKEN_SECONDS: Final = 12 * 3600.0
"""How long the token of a NEW_TOKEN frame serves: as long as a key opens after it last sealed."""

CLOCK_STEP_SECONDS: Final = 2.0
"""How far a token may come from the future: clocks are corrected by that much."""

USED_TOKENS_MAX: Final = 32_768
"""Tokens remembered as used: what 2,000 connections a second use of Retry tokens until they are too
old. Beyond them the oldest may serve again, for the address it was given to."""

# Kind, issue time in milliseconds, packed address, port, the Retry's source connection ID; the
# rest is the original destination connection ID, or the version of QUIC of a token for later.
_BODY: Final = struct.Struct(f">BQ16sH{CONNECTION_ID_LENGTH}s")

TOKEN_MIN_BYTES: Final = NONCE_BYTES + _BODY.size + TAG_BYTES
TOKEN_MAX_BYTES: Final = TOKEN_MIN_BYTES + CONNECTION_ID_MAX_LENGTH

VERSION_BYTES: Final = 4
"""Of a version of QUIC (RFC 8999 section 5.1)."""

_NO_CONNECTION_ID: Final = bytes(CONNECTION_ID_LENGTH)
_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"


class _Kind(IntEnum):
    """How a token was given; a server has to tell (RFC 9000 section 8.1.1)."""

    RETRY = 1
    NEW_TOKEN = 2


class InvalidTokenError(Exception):
    """A token of a Retry does not hold; the client's fault, and it accepts no other Retry."""


class AddressProof(NamedTuple):
    """A token that holds.

    Attributes:
        identity: Names the token, to see that it serves only once.
        original_destination_connection_id: Of the packet that a Retry answered; ``None`` if the
            token came in a NEW_TOKEN frame.
    """

    identity: bytes
    original_destination_connection_id: bytes | None


class AddressTokens:
    """Makes and checks tokens.

    Arguments:
        keys: The secrets that all workers share.
        retry_seconds: How long the token of a Retry serves.
    """

    __slots__ = ("_retry_seconds", "_sealers")

    def __init__(self, keys: Keys, retry_seconds: float = RETRY_TOKEN_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._sealers = tuple(make_sealer(key) for key in keys.derived(TOKEN))

    def for_retry(
        self, peer: Address, original: bytes, retry_source_connection_id: bytes, now: float
    ) -> bytes:
        """Return a token for a Retry packet (RFC 9000 section 8.1.2).

        Arguments:
            peer: Where the Retry goes: the token serves from there only, port included.
            original: The destination connection ID of the packet that the Retry answers.
            retry_source_connection_id: Of the Retry, 8 bytes: it serves only with this one.
            now: Seconds since the epoch.
        """
        return self._seal(_Kind.RETRY, peer, peer[1], original, retry_source_connection_id, now)

    def for_later(self, peer: Address, version: int, now: float) -> bytes:
        """Return a token for a NEW_TOKEN frame (RFC 9000 section 8.1.3).

        Arguments:
            peer: Whose address is validated; the token serves from its other ports too.
            version: Of QUIC on this connection: it serves in this one only (RFC 9369 section 5).
            now: Seconds since the epoch.
        """
        said = version.to_bytes(VERSION_BYTES)
        return self._seal(_Kind.NEW_TOKEN, peer, 0, said, _NO_CONNECTION_ID, now)

    def check(
        self,
        token: bytes,
        peer: Address,
        destination_connection_id: bytes,
        version: int,
        now: float,
    ) -> AddressProof | None:
        """Check the token of an Initial packet.

        Arguments:
            token: As the packet has it; may be empty.
            peer: Where the packet came from.
            destination_connection_id: Of the packet.
            version: Of QUIC, of the packet.
            now: Seconds since the epoch.

        Returns:
            What it proves, or ``None`` if that is nothing: it is none of ours, or one of a
            NEW_TOKEN frame that does not hold (RFC 9000 section 8.1.3).

        Raises:
            InvalidTokenError: It is one of a Retry of ours and does not hold: for another address
                or connection, or too old.
        """
        body = self._open(token)
        if body is None:
            return None
        kind, milliseconds, address, port, retry_source, *_ = _BODY.unpack_from(body)
        rest = body[_BODY.size :]
        issued = milliseconds / 1000
        lifetime = self._retry_seconds if kind == _Kind.RETRY else NEW_TOKEN_SECONDS
        timely = issued - CLOCK_STEP_SECONDS <= now < issued + lifetime
        ours = timely and address == _packed(peer)
        identity = token[:NONCE_BYTES]
        if kind == _Kind.RETRY:
            if not ours or port != peer[1] or retry_source != destination_connection_id:
                raise InvalidTokenError("a Retry token does not hold")
            return AddressProof(identity, rest)
        ours = ours and rest == version.to_bytes(VERSION_BYTES)
        return AddressProof(identity, None) if ours else None

    def _seal(
        self, kind: _Kind, peer: Address, port: int, original: bytes, source: bytes, now: float
    ) -> bytes:
        body = _BODY.pack(kind, int(now * 1000), _packed(peer), port, source) + original
        # Random nonces are safe for 2^32 tokens under a key (NIST SP 800-38D section 8.3): twice
        # what 50,000 tokens a second are until the key is rotated.
        return self._sealers[0].seal(body)

    def _open(self, token: bytes) -> bytes | None:
        if not TOKEN_MIN_BYTES <= len(token) <= TOKEN_MAX_BYTES:
            return None
        for sealer in self._sealers:
            body = sealer.open(token)
            if body is not None:
                return body
        return None


class UsedTokens:
    """Remembers which tokens served (RFC 9000 section 8.1.4).

    A Retry's token comes back to the worker that gave it, so it serves once; one of a NEW_TOKEN
    frame may serve once at each worker.

    Arguments:
        capacity: How many are remembered before the oldest is forgotten.
    """

    __slots__ = ("_capacity", "_identities")

    def __init__(self, capacity: int = USED_TOKENS_MAX) -> None:
        self._capacity = capacity
        self._identities: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, proof: AddressProof) -> bool:
        return proof.identity in self._identities

    def add(self, proof: AddressProof) -> None:
        """Remember that a token served."""
        self._identities[proof.identity] = None
        if len(self._identities) > self._capacity:
            self._identities.popitem(last=False)


STORED_TOKEN_MAX_BYTES: Final = 512
"""Longest token a client keeps: those of the servers known have below 200 bytes, and it has to fit
the first packet beside a TLS hello."""

STORED_TOKENS_PER_SERVER: Final = 4
"""Tokens kept for one server: it may give several so that connections cannot be linked by them."""

STORED_SERVERS_MAX: Final = 1024
"""Servers that a client keeps tokens of, each once for each version of QUIC."""


class TokenStore:
    """What a client keeps of the tokens that servers gave it, each to be used once.

    A token serves in the version of QUIC in which it was given (RFC 9369 section 5).

    Arguments:
        capacity: How many servers; of more, the one that gave none for the longest is forgotten.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, capacity: int = STORED_SERVERS_MAX) -> None:
        self._capacity = capacity
        self._tokens: OrderedDict[tuple[str, int], deque[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._tokens.values()))

    def put(self, server_name: str, version: int, token: bytes) -> None:
        """Keep a token of a server; one that is too long is dropped."""
        if not 0 < len(token) <= STORED_TOKEN_MAX_BYTES:
            return
        server = server_name, version
        tokens = self._tokens.setdefault(server, deque(maxlen=STORED_TOKENS_PER_SERVER))
        self._tokens.move_to_end(server)
        if token not in tokens:
            tokens.append(token)
        if len(self._tokens) > self._capacity:
            self._tokens.popitem(last=False)

    def take(self, server_name: str, version: int) -> bytes:
        """Remove the newest token of a server and return it; empty if there is none."""
        tokens = self._tokens.get((server_name, version))
        if tokens is None:
            return b""
        token = tokens.pop()
        if not tokens:
            del self._tokens[server_name, version]
        return token


def _packed(peer: Address) -> bytes:
    """Return an address in 16 bytes, one of IPv4 mapped to IPv6."""
    host = peer[0]
    if ":" in host:
        return ipaddress.IPv6Address(host.partition("%")[0]).packed
    return _IPV4_MAPPED + bytes(map(int, host.split(".")))
