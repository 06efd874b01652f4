"""What servers say in a handshake, message by message, as the native engine's client reads it.

The first byte says how far the handshake is, and the rest is what comes then. What is taken must be
what aioquic reads of the same message; only what is foreseen may be raised. The engine exists
compiled only.
"""

from collections.abc import Callable, Iterator
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer

from spooky import _core
from spooky._core.quic.errors import QuicError, TlsAlert
from spooky.protocol.quic.sealed_tickets import TICKET_MAX
from spooky.protocol.quic.tls_endpoint import APPLICATION, HANDSHAKE, INITIAL
from tests.protocol.quic import forged_server as forge
from tests.protocol.quic.forged_server import ForgedServer
from tests.protocol.quic.retried_hello import read_extensions
from tests.protocol.quic.support import client_parameters
from tests.protocol.quic.tls_support import SERVER_PARAMETERS, native_client

PULLERS: dict[int, Callable[[Buffer], Any]] = {
    2: tls.pull_server_hello,
    4: tls.pull_new_session_ticket,
    8: tls.pull_encrypted_extensions,
    11: tls.pull_certificate,
    13: tls.pull_certificate_request,
    15: tls.pull_certificate_verify,
    20: tls.pull_finished,
}
"""How aioquic reads each message."""

RETRY = forge.retry(0x1301, [forge.asks_for(forge.P256)])


class Met:
    """A client, how far its handshake is, and the tickets that it kept."""

    def __init__(self, *, early: bool = False) -> None:
        self.kept: list[tls.SessionTicket] = []
        session = forge.session_of(bytes(32), max_early_data_size=0xFFFFFFFF) if early else None
        parameters = client_parameters(
            verify=False, ticket=session, early_data=early, on_ticket=self.kept.append
        )
        self.client = native_client(parameters)
        self.server = ForgedServer(self.client, session=session)
        self.level = INITIAL

    def retried(self) -> "Met":
        """Go on to a second hello."""
        self.server.ask_again(RETRY)
        return self

    def greeted(self) -> "Met":
        """Go on to the ServerHello."""
        self.server.greet()
        self.level = HANDSHAKE
        return self

    def told(self, messages: int) -> "Met":
        """Go on by so many messages of the flight."""
        self.greeted()
        said = 0

        def say(name: str, right: bytes) -> None:
            nonlocal said
            said += 1
            if said <= messages:
                ForgedServer.say(self.server, name, right)

        self.server.say = say  # type: ignore[method-assign]
        self.server.flight()
        return self

    def done(self) -> "Met":
        """Go on to the end."""
        self.greeted().server.flight().complete()
        self.level = APPLICATION
        return self


STAGES: tuple[Callable[[], Met], ...] = (
    Met,
    lambda: Met(early=True),
    lambda: Met().retried(),
    lambda: Met().greeted(),
    lambda: Met(early=True).greeted(),
    lambda: Met().told(1),
    lambda: Met().told(2),
    lambda: Met().told(3),
    lambda: Met(early=True).told(1),
    lambda: Met().done(),
)


def said_by_us() -> Iterator[tuple[int, bytes]]:
    """Yield what a server of ours says, and when."""
    share = forge.KEY_SHARE, b"\0\x1d" + forge.vector(b"\x09" + bytes(31), 2)
    version = forge.SUPPORTED_VERSIONS, b"\x03\x04"
    for stage in (0, 1):
        yield stage, forge.hello(0x1301, [version, share])
        yield stage, forge.hello(0x1302, [share, version])
        yield stage, forge.hello(0x1301, [version, share, (forge.PRE_SHARED_KEY, b"\0\0")])
        yield stage, forge.retry(0x1303, [forge.asks_for(forge.P384)])
        yield stage, forge.retry(0x1301, [(forge.COOKIE, forge.vector(b"crumbs", 2))])
        yield stage, forge.hello(0xC02F, [(0xFF01, b"\0")], session=bytes(8))
    yield 2, RETRY
    point = b"\x04" + bytes(range(64))
    yield 2, forge.hello(0x1301, [version, (forge.KEY_SHARE, b"\0\x17" + forge.vector(point, 2))])
    told = [(forge.ALPN, forge.H3), (forge.PARAMETERS, SERVER_PARAMETERS)]
    groups = 10, forge.vector(b"\0\x1d\0\x17", 2)
    for stage in (3, 4):
        yield stage, forge.message(8, forge.encoded(told))
        yield stage, forge.message(8, forge.encoded([*told, (0, b""), groups]))
        yield stage, forge.message(8, forge.encoded([*told, (forge.EARLY_DATA, b"")]))
    yield 5, forge.certificate([b"leaf", b"above it"])
    algorithms = forge.SIGNATURE_ALGORITHMS, forge.vector(b"\x04\x03\x08\x04", 2)
    yield 5, forge.request([algorithms, (47, forge.vector(b"\0\x02\x30\0", 2)), (0x4A4A, b"")])
    yield 5, forge.request() + forge.certificate([b"leaf"])
    yield 6, forge.proof(forge.ED25519, bytes(64))
    yield 7, forge.message(20, bytes(32))
    yield 8, forge.message(20, bytes(32))
    yield 9, forge.ticket()
    yield 9, forge.ticket(lifetime=0, nonce=b"")
    yield 9, forge.ticket(extensions=[(forge.EARLY_DATA, b"\xff" * 4), (0x4A4A, b"x")])
    yield 9, forge.message(24, b"\0")


def seeds() -> Iterator[bytes]:
    """Yield right messages of every stage."""
    for stage, said in said_by_us():
        yield bytes((stage,)) + said


def run(data: bytes) -> None:
    """Let a client that is so far read the rest."""
    if not _core.COMPILED:
        return
    met = STAGES[data[0] % len(STAGES) if data else 0]()
    said = data[1:]
    try:
        met.client.receive(met.level, said)
    except (QuicError, TlsAlert):
        return
    finally:
        # Nobody can guess a Finished, and so nothing ends that had not.
        assert met.client.completed == (met.level == APPLICATION)
    if len(said) < 4 or len(said) != 4 + int.from_bytes(said[1:4]):
        return  # Some, or none, of one.
    if said[0] == 2 and said[6:38] == forge.RETRY_RANDOM:
        retried(met, said)
        return
    theirs = PULLERS[said[0]](Buffer(data=said))
    COMPARISONS[said[0]](met, theirs, said)


def retried(met: Met, said: bytes) -> None:
    """See whether another hello is what was asked for; aioquic knows no HelloRetryRequest."""
    asked = read_extensions(said)
    again = met.client.take_output(INITIAL)
    offer = tls.pull_client_hello(Buffer(data=again))
    group = asked.get(forge.KEY_SHARE, b"\0\x1d")
    assert [each for each, _ in offer.key_share or ()] == [int.from_bytes(group)]
    assert read_extensions(again).get(forge.COOKIE) == asked.get(forge.COOKIE)
    assert not offer.early_data


def hello(met: Met, theirs: tls.ServerHello, said: bytes) -> None:
    """Compare a ServerHello."""
    assert theirs.supported_version == 0x0304
    assert {secret[2] for secret in met.client.secrets if secret[1] == HANDSHAKE} == {
        theirs.cipher_suite
    }
    assert met.client.tls.resumed is (theirs.pre_shared_key == 0)


def told(met: Met, theirs: tls.EncryptedExtensions, said: bytes) -> None:
    """Compare an EncryptedExtensions."""
    assert met.client.tls.alpn == theirs.alpn_protocol
    assert bool(met.client.tls.early_data) is theirs.early_data
    others = dict(theirs.other_extensions)
    assert met.client.peer_parameters == others.pop(forge.PARAMETERS)
    assert set(others) <= {0, 10}


def certificates(met: Met, theirs: tls.Certificate, said: bytes) -> None:
    """Compare a Certificate."""
    from spooky._core.quic.tls_wire import read_certificates

    assert theirs.certificates == [(each, b"") for each in read_certificates(said)]


def request(met: Met, theirs: tls.CertificateRequest, said: bytes) -> None:
    """Compare a CertificateRequest."""
    endpoint: Any = met.client.tls
    assert endpoint._requested == tuple(theirs.signature_algorithms or ())


def proof(met: Met, theirs: tls.CertificateVerify, said: bytes) -> None:
    """Compare a CertificateVerify."""
    from spooky._core.quic.tls_wire import read_certificate_verify

    assert read_certificate_verify(said) == (theirs.algorithm, theirs.signature)


def ticket(met: Met, theirs: tls.NewSessionTicket, said: bytes) -> None:
    """Compare a NewSessionTicket."""
    if not theirs.ticket_lifetime or len(theirs.ticket) > TICKET_MAX:
        assert met.kept == []
        return
    (kept,) = met.kept
    assert (kept.age_add, kept.ticket) == (theirs.ticket_age_add, theirs.ticket)
    assert kept.resumption_secret == met.server.resumption_secret(theirs.ticket_nonce)
    assert kept.max_early_data_size == theirs.max_early_data_size
    life = min(theirs.ticket_lifetime, 7 * 24 * 3600)
    assert (kept.not_valid_after - kept.not_valid_before).total_seconds() == life


COMPARISONS: dict[int, Callable[[Met, Any, bytes], None]] = {
    2: hello, 4: ticket, 8: told, 11: certificates, 13: request, 15: proof,
}  # fmt: skip
