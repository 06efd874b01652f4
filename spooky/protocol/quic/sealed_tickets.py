"""Session tickets that hold their session (RFC 8446 section 2.2), sealed under the shared keys.

So no worker keeps anything, every worker can resume, and what was sealed under the previous keys
is still opened. A ticket is bound to its listener by what is authenticated with it, and to server
name, application protocol, client and what it was asked for by what is inside.
"""

import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from spooky.protocol.quic.keys import SECRET_BYTES, TICKET, Keys
from spooky.protocol.quic.sealing import make_sealer
from spooky.protocol.quic.tls_messages import Reader, opaque

TICKET_SECONDS: Final = 43_200
"""How long a session may be resumed: as long as the previous keys are kept after a rotation."""

TICKET_MAX: Final = 8 * 1024
"""Largest ticket given; bytes. It comes back in a client's first packets, so a client with a longer
chain of certificates gets none."""

FORMAT: Final = 3
"""Of what is sealed; a ticket of another one resumes nothing."""

HEAD: Final = struct.Struct("!BIHdIQ")
"""Format, version of QUIC, cipher suite, when it was issued, what is added to its age, and the
strike register."""

NUMBER_BYTES: Final = 8
"""Of a ticket's number: the start of its nonce, which is random, and authentic if all is."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake agreed on that a resumed one inherits.

    Attributes:
        version: Of QUIC; its tickets are good for no other (RFC 9369 section 5).
        cipher_suite: Its number.
        secret: The pre-shared key.
        issued: When its ticket was; Unix time, seconds.
        age_add: What the client adds to the ticket's age; milliseconds.
        server_name: The name the client asked for; a ticket serves for no other.
        alpn: The application protocol.
        policy: What the client was asked for, see ``ServerIdentity``; a ticket serves for no other.
        client_chain: The certificates the client proved to own, DER, leaf first; empty if none.
        register_id: The strike register where its use for 0-RTT is noted; 0 for none.
        limits: What clients rely on when they send 0-RTT data; see ``EarlyData``.
    """

    version: int
    cipher_suite: int
    secret: bytes
    issued: float
    age_add: int
    server_name: str | None
    alpn: str
    policy: bytes = b""
    client_chain: tuple[bytes, ...] = ()
    register_id: int = 0
    limits: tuple[int, ...] = ()


class TicketSealer:
    """Makes tickets of sessions, and sessions of tickets.

    Arguments:
        keys: What all workers share.
        listener: Whose tickets these are.
    """

    def __init__(self, keys: Keys, listener: str) -> None:
        self._sealers = [make_sealer(key) for key in keys.derived(TICKET)]
        # Whoever came to know keys that are kept in a file could else be any client.
        self._sealers_of_known = [make_sealer(key) for key in keys.derived_unkept(TICKET)]
        self._listener = listener.encode()

    def seal(self, session: Session) -> bytes | None:
        """Return a ticket, or ``None`` for a session too large for one."""
        sealers = self._sealers_of_known if session.client_chain else self._sealers
        ticket = sealers[0].seal(_encode(session), self._listener)
        return ticket if len(ticket) <= TICKET_MAX else None

    def open(self, ticket: bytes) -> Session | None:
        """Return the session of a ticket, or ``None`` if it is none of this listener's."""
        for sealers, are_of_known in ((self._sealers, False), (self._sealers_of_known, True)):
            for sealer in sealers:
                opened = sealer.open(ticket, self._listener)
                if opened is not None:
                    session = _decode(opened)
                    is_fit = session is not None and bool(session.client_chain) is are_of_known
                    return session if is_fit else None
        return None


def ticket_number(ticket: bytes) -> int:
    """Return a number of a ticket that was opened which no other ticket has."""
    return int.from_bytes(ticket[:NUMBER_BYTES], "big")


def _encode(session: Session) -> bytes:
    name = session.server_name
    return b"".join(
        (
            HEAD.pack(
                FORMAT,
                session.version,
                session.cipher_suite,
                session.issued,
                session.age_add,
                session.register_id,
            ),
            opaque(session.secret, 1),
            opaque(b"" if name is None else name.encode(), 1),
            opaque(session.alpn.encode(), 1),
            opaque(session.policy, 1),
            opaque(struct.pack(f"!{len(session.limits)}Q", *session.limits), 1),
            *(opaque(certificate, 3) for certificate in session.client_chain),
        )
    )


def _decode(data: bytes) -> Session | None:
    """Read what only we can have written, though perhaps in another version."""
    if data[0] != FORMAT:
        return None
    _, version, cipher_suite, issued, age_add, register_id = HEAD.unpack_from(data)
    reader = Reader(data, HEAD.size)
    secret, name, alpn, policy, limits = (reader.opaque(1) for _ in range(5))
    chain = []
    while not reader.ended:
        chain.append(reader.opaque(3))
    return Session(
        version,
        cipher_suite,
        secret,
        issued,
        age_add,
        name.decode() or None,
        alpn.decode(),
        policy,
        tuple(chain),
        register_id,
        struct.unpack(f"!{len(limits) // 8}Q", limits),
    )


@lru_cache(maxsize=1)
def _own_keys() -> Keys:
    """Return keys for a process that shares none."""
    return Keys(1, os.urandom(SECRET_BYTES), (), os.urandom(SECRET_BYTES))


@lru_cache(maxsize=64)
def ticket_sealer(keys: Keys | None, listener: str) -> TicketSealer:
    """Return the sealer of a listener's tickets, the same for all its connections.

    Arguments:
        keys: What all workers share; ``None`` if nobody else has to open the tickets.
        listener: Whose tickets these are.
    """
    return TicketSealer(keys or _own_keys(), listener)
