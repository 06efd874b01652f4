"""Sessions that a client may resume (RFC 8446 section 2.2), kept in memory.

A ticket works once: it serves as its own anti-replay, and a client cannot be followed by it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aioquic.tls import SessionTicket
from cryptography import x509

TICKETS_MAX: Final = 10_000
"""Tickets kept before the oldest is forgotten; about 1 KiB each."""


@dataclass(frozen=True, slots=True)
class ResumableSession:
    """What a handshake agreed on that a resumed one inherits.

    Attributes:
        ticket: The secrets, and until when they serve.
        server_name: The name the client asked for; a ticket serves for no other.
        policy: What the client was asked for, see ``ServerIdentity``; a ticket serves for no other.
        client_chain: The certificates the client proved to own, leaf first; empty if none.
    """

    ticket: SessionTicket
    server_name: str | None
    policy: bytes
    client_chain: tuple[x509.Certificate, ...]


class TicketStore:
    """A bounded store of resumable sessions by ticket."""

    __slots__ = ("_capacity", "_sessions")

    def __init__(self, capacity: int = TICKETS_MAX) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[bytes, ResumableSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session: ResumableSession) -> None:
        """Keep a session, forgetting the oldest if there are too many."""
        self._sessions[session.ticket.ticket] = session
        if len(self._sessions) > self._capacity:
            self._sessions.popitem(last=False)

    def take(self, ticket: bytes) -> ResumableSession | None:
        """Remove the session of a ticket and return it, if there is one."""
        return self._sessions.pop(ticket, None)
