"""Session tickets and address tokens as clients bring them back, whole, changed or made up.

The first byte chooses: a ticket that is the rest; a ticket of ours changed at a place; or what was
sealed in another version, whose content is the rest.
"""

from collections.abc import Iterator

from spooky.protocol.quic import sealed_tickets
from spooky.protocol.quic.keys import TICKET, Keys
from spooky.protocol.quic.sealed_tickets import Session, TicketSealer
from spooky.protocol.quic.sealing import PackageSealer, make_sealer

KEYS = Keys(2, b"n" * 32, (b"p" * 32,), bytes(32))
SEALER = TicketSealer(KEYS, "listener")
OTHER = TicketSealer(KEYS, "other")
SESSION = Session(
    1, 0x1301, b"s" * 32, 1.7e9, 7, "example.com", "h3", b"policy", (b"leaf", b"ca"), 3, (1, 2)
)
KEY = KEYS.derived(TICKET)[0]


def seeds() -> Iterator[bytes]:
    """Yield tickets, changes and contents."""
    ticket = SEALER.seal(SESSION) or b""
    yield b"\0" + ticket
    yield b"\0" + ticket[:28]
    yield b"\0"
    for place in (0, 11, 12, 40, len(ticket) - 1):
        yield bytes((1, place, 1))
    yield b"\1\0\0"
    yield b"\2" + sealed_tickets._encode(SESSION)


def run(data: bytes) -> None:
    """Open a ticket."""
    kind, rest = (data[0] if data else 0) % 3, data[1:]
    (take_any, take_changed, take_content)[kind](rest)


def take_any(ticket: bytes) -> None:
    """Open what a client made up; the two ways to seal open each other's."""
    ours, theirs = make_sealer(KEY), PackageSealer(KEY)
    assert ours.open(ticket, b"listener") == theirs.open(ticket, b"listener")
    assert OTHER.open(ticket) is None
    # The seeds have one that is right.
    opened = SEALER.open(ticket)
    assert opened is None or opened == SESSION


def take_changed(data: bytes) -> None:
    """Change a ticket of ours."""
    place, *changes = data.ljust(1, b"\0")
    ticket = bytearray(SEALER.seal(SESSION) or b"")
    at = place % len(ticket)
    changed = bytes(byte ^ change for byte, change in zip(ticket[at:], changes, strict=False))
    before = bytes(ticket)
    ticket[at : at + len(changed)] = changed
    assert SEALER.open(bytes(ticket)) == (SESSION if bytes(ticket) == before else None)


def take_content(plain: bytes) -> None:
    """Seal what any program may have, and what comes back is what was sealed."""
    sealed = make_sealer(KEY).seal(plain, b"listener")
    assert PackageSealer(KEY).open(sealed, b"listener") == plain
    assert make_sealer(KEY).open(PackageSealer(KEY).seal(plain, b"listener"), b"listener") == plain
