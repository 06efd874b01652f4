"""Two sessions on a simulated network, and handlers that remember what they were told."""

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, Self, TypeVar, cast

from spooky.protocol.quic.aioquic_session import (
    AioquicSession,
    ClientParameters,
    ServerParameters,
)
from spooky.protocol.quic.certificates import (
    CertificateChain,
    CertificateSelector,
    ClientVerifier,
    ServerIdentity,
)
from spooky.protocol.quic.engines import AIOQUIC, Engine
from spooky.protocol.quic.packet import ConnectionIds, PacketHeader
from spooky.protocol.quic.session import Address, Close, Datagram, Handshake, QuicSession
from tests.certificates import Credentials, steady_ca, steady_server
from tests.simnet import CLIENT, SERVER, Host, Link, Network

SLOT = 7


def chain_of(credentials: Credentials) -> CertificateChain:
    return CertificateChain(credentials.certificate_pem, credentials.key_pem)


def identity_of(
    credentials: Credentials, client_verifier: ClientVerifier | None = None
) -> ServerIdentity:
    return ServerIdentity(chain_of(credentials), client_verifier)


def server_parameters(
    *, client_verifier: ClientVerifier | None = None, **changes: Any
) -> ServerParameters:
    """Return parameters; those of a verifier are for the certificate that is always the same."""
    if "certificates" not in changes:
        identity = identity_of(steady_server(), client_verifier)
        changes["certificates"] = CertificateSelector({}, identity)
    else:
        assert client_verifier is None
    return ServerParameters(**changes)


def client_parameters(**changes: Any) -> ClientParameters:
    changes.setdefault("authorities", steady_ca().certificate_pem)
    return ClientParameters(**changes)


class Recorder:
    """A handler that remembers, and consumes what it gets unless told not to."""

    def __init__(self) -> None:
        self.session: QuicSession
        self.consuming = True
        self.handshake: Handshake | None = None
        self.early = False
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: list[tuple[int, int]] = []
        self.stops: list[tuple[int, int]] = []
        self.writable: list[int] = []
        self.issued: list[bytes] = []
        self.retired: list[bytes] = []
        self.streams_available = 0
        self.closes: list[Close] = []
        self.uploads: dict[int, Callable[[], None]] = {}
        self.on_data: Callable[[int, bytes, bool], None] = lambda stream_id, data, fin: None

    def on_early_data(self) -> None:
        assert self.handshake is None
        self.early = True

    def on_handshake(self, handshake: Handshake) -> None:
        assert self.handshake is None
        self.handshake = handshake

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        assert stream_id not in self.ended
        assert not self.closes
        self.data.setdefault(stream_id, bytearray()).extend(data)
        if fin:
            self.ended.add(stream_id)
        if self.consuming:
            self.session.consume(stream_id, len(data))
        self.on_data(stream_id, data, fin)

    def on_stream_reset(self, stream_id: int, error_code: int) -> None:
        self.resets.append((stream_id, error_code))

    def on_stop_sending(self, stream_id: int, error_code: int) -> None:
        self.stops.append((stream_id, error_code))

    def on_stream_writable(self, stream_id: int) -> None:
        self.writable.append(stream_id)
        resume = self.uploads.get(stream_id)
        if resume is not None:
            resume()

    def on_streams_available(self) -> None:
        self.streams_available += 1

    def on_connection_id_issued(self, connection_id: bytes) -> None:
        assert connection_id not in self.issued
        self.issued.append(connection_id)

    def on_connection_id_retired(self, connection_id: bytes) -> None:
        self.retired.append(connection_id)

    def on_closed(self, close: Close) -> None:
        assert not self.closes
        self.closes.append(close)

    def total(self, stream_id: int) -> int:
        return len(self.data.get(stream_id, b""))


SessionT = TypeVar("SessionT", bound=QuicSession)


class Endpoints(Generic[SessionT]):
    """A client and a server session on a network, each of some engine."""

    def __init__(
        self,
        seed: int = 1,
        *,
        engines: tuple[Engine, Engine],
        link: Link | None = None,
        server: ServerParameters | None = None,
        client: ClientParameters | None = None,
        server_name: str = "example.test",
        addresses: tuple[Address, Address] = (CLIENT, SERVER),
    ) -> None:
        self.network = Network(seed, link)
        self.server_engine = engines[1]
        self.server_parameters = server or server_parameters()
        self.client_handler, self.server_handler = Recorder(), Recorder()
        self.client = cast(
            SessionT,
            engines[0].client_session(
                client or client_parameters(), addresses[1], server_name, self.network.now
            ),
        )
        self.client.handler = self.client_handler
        self.client_handler.session = self.client
        self.client_host: Host = self.network.add_client(self.client, addresses[0])
        self.server_host: Host = self.network.add_server(self._accept, addresses[1])
        self.made_ids: list[bytes] = []

    def _make_id(self) -> bytes:
        self.made_ids.append(ConnectionIds(SLOT).make())
        return self.made_ids[-1]

    def _accept(self, first: Datagram, header: PacketHeader, now: float) -> SessionT | None:
        return self.begin(first, header, now) if header.is_initial else None

    def begin(self, first: Datagram, header: PacketHeader, now: float, **proof: Any) -> SessionT:
        """Make the server's session."""
        if self.server_handler.closes:
            # The Initial before this one was corrupt, and left nothing behind.
            self.server_handler = Recorder()
        session = self.server_engine.server_session(
            self.server_parameters, header, first.source, now, self._make_id, **proof
        )
        session.handler = self.server_handler
        self.server_handler.session = session
        return cast(SessionT, session)

    @property
    def server(self) -> SessionT:
        session = self.server_host.session
        assert session is not None
        return cast(SessionT, session)

    def run(self, until: Callable[[], bool] = lambda: False, seconds: float = 60.0) -> bool:
        return self.network.run(until, seconds)

    def handshake(self, seconds: float = 30) -> Self:
        """Run until both sides are established and quiet."""
        assert self.run(
            lambda: bool(self.client_handler.handshake and self.server_handler.handshake), seconds
        ), (self.client_handler.closes, self.server_handler.closes)
        self.run(seconds=0.2)
        return self

    def closed(self) -> tuple[Close, Close]:
        """Run until both sides know that it is over; the client's view, the server's."""
        assert self.run(lambda: bool(self.client_handler.closes and self.server_handler.closes))
        return self.client_handler.closes[0], self.server_handler.closes[0]


class Pair(Endpoints[AioquicSession]):
    """Both on aioquic."""

    def __init__(self, seed: int = 1, **more: Any) -> None:
        super().__init__(seed, engines=(AIOQUIC, AIOQUIC), **more)


def upload(handler: Recorder, stream_id: int, data: bytes) -> None:
    """Send all of ``data`` and the end of the stream, as fast as the session takes it."""
    sent = 0

    def more() -> None:
        nonlocal sent
        sent += handler.session.send(stream_id, data[sent:], True)
        if sent == len(data):
            handler.uploads.pop(stream_id, None)

    handler.uploads[stream_id] = more
    more()


def stalled(pair: Endpoints[Any], streams: int = 1, size: int = 4_194_304) -> list[int]:
    """Upload on some streams to a server that consumes nothing, until nothing moves."""
    pair.server_handler.consuming = False
    opened = [open_stream(pair.client) for _ in range(streams)]
    for stream in opened:
        upload(pair.client_handler, stream, bytes(size))
    pair.run(seconds=5)
    return opened


def open_stream(session: QuicSession, *, unidirectional: bool = False) -> int:
    stream_id = session.open_stream(unidirectional)
    assert stream_id is not None
    return stream_id


def effort(work: Callable[[], object]) -> int:
    """Count the lines of Python that something takes: what it costs, without a clock's noise."""
    lines = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two places look alike, to find what is out of order."""
    return random.Random(seed).randbytes(size)
