"""Handshake messages of TLS, as the native engine's server and client read them.

A handshake of the two runs until the message that the first byte names, which is replaced, partly
overwritten or extended by the input. Only what is foreseen may be raised, and a handshake that
anybody touched is never complete on both sides. The engine exists compiled only.
"""

import functools
from collections.abc import Callable, Iterator

from spooky import _core
from spooky.protocol.quic.certificates import CertificateChain, ClientVerifier
from spooky.protocol.quic.parameters import ClientParameters, ServerParameters
from spooky.protocol.quic.tickets import TicketStore
from tests.certificates import ca, client_leaf
from tests.protocol.quic.support import chain_of, client_parameters, server_parameters

if _core.COMPILED:
    from spooky._core.quic.errors import QuicError, TlsAlert
    from tests.protocol.quic.tls_support import Native, native_client, native_server

INITIAL, HANDSHAKE, APPLICATION = range(3)

STAGES = (
    ("client", INITIAL),
    ("server", INITIAL),
    ("server", HANDSHAKE),
    ("client", HANDSHAKE),
    ("server", APPLICATION),
    ("client", APPLICATION),
)
"""Whose data of which level is touched, in the order in which it is said."""

REPLACE, OVERWRITE, EXTEND, CUT = range(4)


@functools.cache
def parameters() -> tuple[ServerParameters, ClientParameters]:
    """Return those of a server that asks for certificates, and of a client that has one."""
    authority = ca("clients")
    alice = client_leaf("alice", authority)
    verifier = ClientVerifier([authority.certificate], required=False)
    server = server_parameters(client_verifier=verifier, tickets=TicketStore())
    certificate: CertificateChain = chain_of(alice)
    return server, client_parameters(certificate=certificate, on_ticket=lambda ticket: None)


def recorded() -> list[bytes]:
    """Return what either side says in each stage of a handshake that nobody touches."""
    said: list[bytes] = []
    handshake(said, len(STAGES), lambda data: data)
    return said


def seeds() -> Iterator[bytes]:
    """Yield each stage's own messages, and ways to touch them."""
    if not _core.COMPILED:
        yield from (bytes((stage, 0, 0)) for stage in range(len(STAGES)))
        return
    for stage, data in enumerate(recorded()):
        yield bytes((stage, REPLACE, 0)) + data
        yield bytes((stage, OVERWRITE, 9)) + data[9:40]
        yield bytes((stage, EXTEND, 7)) + b"\x04\0\0\x01x"
        yield bytes((stage, CUT, 30))
        # The last byte is one of a Finished, or of what it covers.
        yield bytes((stage, REPLACE, 0)) + data[:-1] + bytes((data[-1] ^ 1,) if data else ())
    for kind in (0, 2, 4, 5, 8, 11, 13, 15, 20, 24):
        yield bytes((2, REPLACE, 0, kind, 0, 0, 2, 0, 0))
        yield bytes((3, REPLACE, 0, kind, 0, 0, 2, 0, 0))
        yield bytes((4, REPLACE, 0, kind, 0, 0, 2, 0, 0))


def touch(data: bytes, how: int, where: int, rest: bytes) -> bytes:
    """Return what becomes of a message."""
    at = where * max(1, len(data) // 256)
    match how % 4:
        case 0:
            return rest
        case 1:
            return data[:at] + rest + data[at + len(rest) :]
        case 2:
            return data + rest
        case _:
            return data[:at] + rest


def handshake(said: list[bytes], stage: int, change: Callable[[bytes], bytes]) -> bool:
    """Shake hands, and return whether it came to an end on both sides.

    Arguments:
        said: Takes what is said in each stage, before it is changed.
        stage: Which stage is changed.
    """
    server_side, client_side = parameters()
    sides: dict[str, Native] = {
        "server": native_server(server_side),
        "client": native_client(client_side),
    }
    other = {"server": "client", "client": "server"}
    for number, (who, level) in enumerate(STAGES):
        data = sides[who].take_output(level)
        said.append(data)
        sides[other[who]].receive(level, change(data) if number == stage else data)
    return all(side.completed for side in sides.values())


def run(data: bytes) -> None:
    """Touch one stage of a handshake."""
    if not _core.COMPILED:
        return
    stage, how, where, *rest = data.ljust(3, b"\0")
    stage %= len(STAGES)
    touched: list[bool] = []

    def change(original: bytes) -> bytes:
        changed = touch(original, how, where, bytes(rest))
        touched.append(changed != original)
        return changed

    try:
        complete = handshake([], stage, change)
    except (QuicError, TlsAlert):
        return
    # After the handshake there are tickets, of which a client may ignore what it likes.
    assert not (complete and touched[0]) or STAGES[stage][1] == APPLICATION
