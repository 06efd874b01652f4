"""When a server takes 0-RTT data (RFC 8446 section 8, RFC 9001 section 4.6).

Whoever recorded a client's first packets can send them again. So a ticket serves for 0-RTT once, at
one worker of all: it is struck out of a register that they share. That register forgets, so a hello
is also refused that is not as old as its ticket's age says: what was forgotten is too old by then.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from spooky.protocol.quic.sealed_tickets import Session, ticket_number

AGE_TOLERANCE: Final = 10.0
"""How far the age that a client tells may be from that by our clock; seconds. Clocks drift and
hellos are sent again; ten is what RFC 8446 section 8.3 finds right for the Internet."""

REGISTER_SECONDS: Final = 2 * int(AGE_TOLERANCE) + 1
"""How long a hello is fresh, from the first to the last moment; and one for whole seconds."""

AGE_MODULUS: Final = 1 << 32
"""Of what hides the age, in milliseconds (RFC 8446 section 4.2.11.1)."""


class StrikeRegister(Protocol):
    """What all workers share: the segment of :mod:`spooky._core.shared`."""

    @property
    def register_id(self) -> int:
        """Which register it is; no other has this number."""

    def strike(self, key: int, now: int, keep: int) -> bool:
        """Strike out a key, and tell whether that was the first time."""


@dataclass(frozen=True, slots=True)
class EarlyData:
    """How a listener takes 0-RTT data.

    Attributes:
        register: Where tickets that were used are struck out.
        limits: What clients were promised and rely on when they send 0-RTT data: flow control,
            streams, and the settings of HTTP/3, in an order that never changes.
    """

    register: StrikeRegister
    limits: tuple[int, ...]

    def takes(self, session: Session, ticket: bytes, obfuscated_age: int, now: float) -> bool:
        """Tell whether the 0-RTT data of a resumed session is taken; if so, it never is again.

        Arguments:
            session: What the ticket holds; that it is the client's was proven.
            ticket: As the client sent it.
            obfuscated_age: How old the client says it is.
            now: Unix time, seconds.
        """
        if session.register_id != self.register.register_id:
            # Another process, or this one before it was started again, may have taken it.
            return False
        age = (obfuscated_age - session.age_add) % AGE_MODULUS / 1000
        if abs(now - session.issued - age) > AGE_TOLERANCE:
            return False
        if not self._keeps(session.limits):
            return False
        return self.register.strike(ticket_number(ticket), int(now), REGISTER_SECONDS)

    def _keeps(self, promised: tuple[int, ...]) -> bool:
        """Tell whether no limit is lower (RFC 9000 section 7.4.1, RFC 9114 section 7.2.4.2)."""
        return len(promised) == len(self.limits) and all(
            limit >= before for limit, before in zip(self.limits, promised, strict=True)
        )
