"""What a listener says to clients that have no connection: Retry, its refusals, stateless reset."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion

from spooky._core import COMPILED, reasons
from spooky._core.reasons import Reason
from spooky.edge.limits import RateLimits
from spooky.edge.quic import QuicListener, QuicSettings
from spooky.edge.settings import with_keys
from spooky.edge.source_rules import SourceRules
from spooky.edge.stateless import (
    RESETS,
    AddressSettings,
    StatelessAnswers,
)
from spooky.observe.counters import Counters, SlotName, reason_labels
from spooky.protocol.h3.limits import Limits
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.packet import VERSION_1, PacketHeader, PacketType, parse_header
from spooky.protocol.quic.session import Transmit
from spooky.protocol.quic.stateless import RESET_MAX_BYTES, RESET_MIN_BYTES
from spooky.protocol.quic.tokens import RETRY_TOKEN_SECONDS, AddressTokens
from tests.edge.test_ingress import counted, run_with
from tests.protocol.quic.support import server_parameters
from tests.support.client import Http3Client
from tests.support.proxy import Setup
from tests.support.waiting import until

VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
STRAY = b"\x40" + b"\0nobody!"
ANSWER_SECONDS = 30
SILENCE_SECONDS = 0.2


def configuration(**changes: Any) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost", **changes
    )


def test_tokens_are_given_and_checked_by_one_clock() -> None:
    """Where the date is not that of the machine, as in a test, new tokens would be of no use."""
    date = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    keys = Keys.generate()
    parameters = server_parameters(wall_clock=lambda: date.timestamp())
    address = AddressSettings("auto", AddressTokens(keys), 1.0)
    settings = QuicSettings(
        chosen_engine(None),
        parameters,
        Limits(),
        10.0,
        address,
        SourceRules(()),
        MagicMock(),
        MagicMock(),
    )
    settings = with_keys(settings, keys)
    make = settings.parameters.new_token
    assert make is not None
    client, now = ("192.0.2.1", 1), date.timestamp()
    assert (
        settings.address.tokens.check(make(client, VERSION_1), client, b"", VERSION_1, now)
        is not None
    )


class Wire:
    """A UDP socket that talks to the proxy.

    Attributes:
        address: Its own.
    """

    def __init__(self, port: int, udp: socket.socket) -> None:
        self.address = udp.getsockname()
        self.server = ("127.0.0.1", port)
        self._udp = udp

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._udp.sendto(datagram, self.server)

    async def receive(self, seconds: float = ANSWER_SECONDS) -> bytes:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self._udp, 2000), seconds)

    async def is_silent(self) -> bool:
        try:
            await self.receive(SILENCE_SECONDS)
        except TimeoutError:
            return True
        return False


@contextmanager
def wire(port: int, host: str = "127.0.0.1") -> Iterator[Wire]:
    """Open a socket that talks to this port."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.bind((host, 0))
        yield Wire(port, udp)


class RawClient:
    """A client whose datagrams a test sends by hand."""

    def __init__(self, **changes: Any) -> None:
        self.tokens: list[bytes] = []
        self.quic = QuicConnection(
            configuration=configuration(**changes), token_handler=self.tokens.append
        )

    def choose_destination(self, connection_id: bytes) -> None:
        """Address the first packet to this connection ID, which else is random."""
        self.quic._peer_cid.cid = self.quic._original_destination_connection_id = connection_id

    def begin(self, on: Wire) -> list[bytes]:
        self.quic.connect(on.server, self.now)
        return self.pending()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def pending(self) -> list[bytes]:
        return [datagram for datagram, _ in self.quic.datagrams_to_send(self.now)]

    def take(self, datagram: bytes, on: Wire) -> list[bytes]:
        """Take an answer and return what it makes the client send."""
        self.quic.receive_datagram(datagram, on.server, self.now)
        return self.pending()

    async def handshake(self, on: Wire, first: list[bytes]) -> None:
        """Go on from these datagrams until the handshake completed."""
        on.send(*first)
        while not self.happened(HandshakeCompleted):
            on.send(*self.take(await on.receive(), on))

    def happened(self, kind: type[Any]) -> Any:
        """Return the next event of a kind, if there is one; those before it are dropped."""
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, kind):
                return event
        return None


def refused(setup: Setup, reason: Reason) -> int:
    return counted(setup.proxy, "connections_refused_total", reason=reason.code)


def accepted(setup: Setup, frame: str) -> int:
    return counted(setup.proxy, "address_tokens_accepted_total", **{"from": frame})


def was_refused_for_its_token(client: RawClient) -> bool:
    # Already while it drains; the event comes after.
    event = client.quic._close_event
    return event is not None and event.error_code == QuicErrorCode.INVALID_TOKEN


async def retried(client: RawClient, on: Wire) -> list[bytes]:
    """Begin, take the Retry, and return what the client sends then, token included."""
    on.send(*client.begin(on))
    answer = await on.receive()
    header = parse_header(answer)
    assert header is not None
    assert header.type is PacketType.RETRY
    return client.take(answer, on)


@pytest.mark.parametrize("version", VERSIONS)
def test_with_retry_a_client_proves_its_address_and_is_served(tmp_path: Path, version: int) -> None:
    """RFC 9000 section 8.1.2, RFC 9369 section 3.3."""

    async def scenario(setup: Setup) -> None:
        client = await Http3Client.connect(
            setup.proxy.port,
            configuration(supported_versions=[version], original_version=version),
        )
        assert (await client.fetch("GET", "/size/5")).status == 200
        assert client.protocol._quic._retry_count == 1
        assert client.protocol._quic._version == version
        await client.close()
        assert (refused(setup, reasons.ADDRESS_UNPROVEN), accepted(setup, "retry")) == (1, 1)

    run_with(tmp_path, scenario, quic_retry="always")


def test_without_retry_nobody_is_asked(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        client = await setup.client("h3")
        assert isinstance(client, Http3Client)
        assert client.protocol._quic._retry_count == 0
        assert (refused(setup, reasons.ADDRESS_UNPROVEN), accepted(setup, "retry")) == (0, 0)

    run_with(tmp_path, scenario)


@pytest.mark.parametrize("closes", [False, True])
def test_a_hello_keeps_its_half_open_place_though_its_client_closes(
    tmp_path: Path, closes: bool
) -> None:
    """Attack 13: whoever forges hellos can forge closes too, and would never be seen to flood."""

    async def scenario(setup: Setup) -> None:
        worker = setup.proxy.worker
        with wire(setup.proxy.port) as on:
            client = RawClient()
            first = client.begin(on)
            if closes:
                client.quic.close()
                first += client.pending()
            on.send(*first)
            await until(lambda: counted(setup.proxy, "datagrams_received_total") == len(first))
            for _ in range(5):
                await asyncio.sleep(0)
            assert worker.quic_cap.half_open == 1

    run_with(tmp_path, scenario)


@pytest.mark.skipif(not COMPILED, reason="aioquic keeps its connections until nothing comes late")
def test_what_comes_late_for_a_connection_that_its_client_closed_is_dropped(
    tmp_path: Path,
) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        client = await setup.client("h3")
        assert isinstance(client, Http3Client)
        connection_id = client.protocol._quic._peer_cid.cid
        await client.close()
        await until(lambda: not listener._connections)
        assert connection_id in listener._late
        assert connection_id not in listener._by_connection_id
        # However late: who forgets them is asked elsewhere.
        listener._late[connection_id] += 3600
        with wire(setup.proxy.port) as on:
            before = counted(setup.proxy, "datagrams_received_total")
            on.send(b"\x40" + connection_id + bytes(40))
            await until(lambda: counted(setup.proxy, "datagrams_received_total") == before + 1)
            assert await on.is_silent()
        assert refused(setup, reasons.UNKNOWN_CONNECTION) == 0
        # A listener on the same port, which may get them, knows to whom they are late.
        other = SimpleNamespace(kin=(listener,), runtime=setup.proxy.worker.runtime)
        other._udp, other._bound_address = listener._udp, listener._bound_address
        datagram: Any = (b"\x40" + connection_id + bytes(40), ("127.0.0.1", 1), 0)
        header: Any = parse_header(datagram[0])
        asked: Any = other
        assert QuicListener._given_to_kin(asked, datagram, header, known=True)

    run_with(tmp_path, scenario)


def test_a_client_that_proved_nothing_takes_no_place(tmp_path: Path) -> None:
    """Attack 13: what comes from forged addresses costs no memory."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            for _ in range(20):
                first = RawClient().begin(on)
                on.send(*first)
                answer = await on.receive()
                assert len(answer) < len(first[0])
        assert setup.proxy.worker.quic_cap.active == 0
        assert refused(setup, reasons.ADDRESS_UNPROVEN) == 20

    run_with(tmp_path, scenario, quic_retry="always")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_token_of_a_retry_from_another_port_or_address_is_refused(
    tmp_path: Path, host: str
) -> None:
    """RFC 9000 section 8.1.2: with INVALID_TOKEN, as the client takes no second Retry."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on, wire(setup.proxy.port, host) as elsewhere:
            client = RawClient()
            elsewhere.send(*await retried(client, on))
            client.take(await elsewhere.receive(), elsewhere)
            assert was_refused_for_its_token(client)
        assert setup.proxy.worker.quic_cap.active == 0
        assert refused(setup, reasons.INVALID_TOKEN) == 1

    run_with(tmp_path, scenario, quic_retry="always")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("policy", ["always", "never"])
def test_the_token_of_a_retry_serves_no_other_connection(
    tmp_path: Path, version: int, policy: str
) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        with wire(setup.proxy.port) as on:
            token = listener.settings.address.tokens.for_retry(
                on.address,
                b"original",
                b"\0retried",
                listener.settings.parameters.wall_clock(),
            )
            thief = RawClient(token=token, original_version=version)
            on.send(*thief.begin(on))
            thief.take(await on.receive(), on)
            assert was_refused_for_its_token(thief)
        assert setup.proxy.worker.quic_cap.active == 0

    run_with(tmp_path, scenario, quic_retry=policy)


def test_the_token_of_a_retry_serves_once(tmp_path: Path) -> None:
    """Attack 16: the same packet again, after its connection is over."""

    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        with wire(setup.proxy.port) as on:
            client = RawClient()
            with_token = await retried(client, on)
            await client.handshake(on, with_token)
            listener.terminate(reasons.DRAIN_TIMEOUT)
            async with asyncio.timeout(30):
                while listener._connections:
                    await asyncio.sleep(0.02)
            while not await on.is_silent():
                pass
            on.send(with_token[0])
            replay = RawClient()
            replay.quic.connect(on.server, replay.now)
            answer = parse_header(await on.receive())
            assert answer is not None
            assert answer.is_initial
            assert await on.is_silent()
        assert setup.proxy.worker.quic_cap.active == 0
        assert (refused(setup, reasons.INVALID_TOKEN), accepted(setup, "retry")) == (1, 1)

    run_with(tmp_path, scenario, quic_retry="always")


def test_the_token_of_a_retry_that_is_too_old_is_refused(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        with wire(setup.proxy.port) as on:
            now = listener.settings.parameters.wall_clock()
            client = RawClient()
            on.send(*client.begin(on))
            await on.receive()
            token = listener.settings.address.tokens.for_retry(
                on.address, b"original", client.quic._peer_cid.cid, now - RETRY_TOKEN_SECONDS
            )
            late = RawClient(token=token)
            late.quic._peer_cid.cid = client.quic._peer_cid.cid
            on.send(*late.begin(on))
            late.take(await on.receive(), on)
            assert was_refused_for_its_token(late)

    run_with(tmp_path, scenario, quic_retry="always")


async def token_for_later(setup: Setup, on: Wire) -> bytes:
    """Connect for the token of a NEW_TOKEN frame."""
    client = RawClient()
    await client.handshake(on, await retried(client, on))
    async with asyncio.timeout(ANSWER_SECONDS):
        while not client.tokens:
            on.send(*client.pending())
            on.send(*client.take(await on.receive(), on))
    client.quic.close()
    on.send(*client.pending())
    (token,) = client.tokens
    return token


def test_a_client_with_a_token_of_an_earlier_connection_saves_the_retry_once(
    tmp_path: Path,
) -> None:
    """RFC 9000 sections 8.1.3 and 8.1.4."""

    async def scenario(setup: Setup) -> None:
        with (
            wire(setup.proxy.port) as on,
            wire(setup.proxy.port) as later,
            wire(setup.proxy.port) as again,
        ):
            token = await token_for_later(setup, on)
            client = RawClient(token=token)
            await client.handshake(later, client.begin(later))
            assert client.quic._retry_count == 0
            assert accepted(setup, "new_token") == 1
            await retried(RawClient(token=token), again)
        assert accepted(setup, "new_token") == 1
        assert refused(setup, reasons.INVALID_TOKEN) == 0

    run_with(tmp_path, scenario, quic_retry="always")


@pytest.mark.parametrize(
    ("host", "version"), [("127.0.0.2", VERSIONS[0]), ("127.0.0.1", VERSIONS[1])]
)
def test_a_token_of_an_earlier_connection_is_no_token_from_another_address_or_version(
    tmp_path: Path, host: str, version: int
) -> None:
    """RFC 9000 section 8.1.3, RFC 9369 section 5: the client is asked as if it had none."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on, wire(setup.proxy.port, host) as later:
            token = await token_for_later(setup, on)
            client = RawClient(token=token, original_version=version)
            await client.handshake(later, await retried(client, later))
        assert accepted(setup, "new_token") == 0

    run_with(tmp_path, scenario, quic_retry="always")


def test_a_token_of_another_server_is_no_token(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            client = RawClient(token=b"of another server, and by chance as long as ours are" * 2)
            await client.handshake(on, client.begin(on))
        assert refused(setup, reasons.INVALID_TOKEN) == 0

    run_with(tmp_path, scenario)


def test_tokens_survive_a_rotation_of_the_keys(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        with wire(setup.proxy.port) as on, wire(setup.proxy.port) as later:
            token = await token_for_later(setup, on)
            keys = listener.settings.parameters.keys
            assert keys is not None
            setup.proxy.worker.use_keys(keys.rotated(b"r" * 32))
            client = RawClient(token=token)
            await client.handshake(later, client.begin(later))
        assert accepted(setup, "new_token") == 1

    run_with(tmp_path, scenario, quic_retry="always")


def test_an_initial_that_is_cut_off_in_its_token_or_names_too_short_an_id_is_dropped(
    tmp_path: Path,
) -> None:
    """RFC 9000 sections 7.2 and 17.2.2."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            cut_off = b"\xc0\0\0\0\1\x08destined\0" + b"\x7f\xff" + bytes(1200)
            too_short = b"\xc0\0\0\0\1\x07too few\0" + bytes(1200)
            on.send(cut_off, too_short)
            assert await on.is_silent()
        assert refused(setup, reasons.BAD_PACKET) == 2

    run_with(tmp_path, scenario, quic_retry="always")


def test_a_packet_of_a_forgotten_connection_is_answered_with_a_reset(tmp_path: Path) -> None:
    """RFC 9000 section 10.3: with the token that belongs to the connection ID, and a listener."""

    async def scenario(setup: Setup) -> None:
        listener = setup.proxy.worker.listeners[0].quic
        reset_token = listener.settings.parameters.reset_token
        assert reset_token is not None
        with wire(setup.proxy.port) as on:
            on.send(STRAY + bytes(1000))
            answer = await on.receive()
        assert len(answer) == RESET_MAX_BYTES
        assert answer.endswith(reset_token(STRAY[1:9]))
        assert counted(setup.proxy, "stateless_resets_sent_total") == 1
        assert refused(setup, reasons.UNKNOWN_CONNECTION) == 1

    run_with(tmp_path, scenario)


def test_resets_that_answer_each_other_fall_silent(tmp_path: Path) -> None:
    """RFC 9000 section 10.3.3."""

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            datagram = STRAY + bytes(1000)
            sizes = []
            for _ in range(RESET_MAX_BYTES - RESET_MIN_BYTES + 1):
                on.send(datagram)
                datagram = await on.receive()
                sizes.append(len(datagram))
            assert sizes == list(range(RESET_MAX_BYTES, RESET_MIN_BYTES - 1, -1))
            on.send(datagram)
            assert await on.is_silent()

    run_with(tmp_path, scenario)


def test_one_source_gets_so_many_resets_and_no_more(tmp_path: Path) -> None:
    """Attack 22."""
    flood = 2 * RESETS.source_burst

    async def scenario(setup: Setup) -> None:
        with wire(setup.proxy.port) as on:
            for _ in range(flood // 10):
                on.send(*[STRAY + bytes(100)] * 10)
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                while refused(setup, reasons.STATELESS_RESET_RATE) == 0:
                    await asyncio.sleep(0.01)
        sent = counted(setup.proxy, "stateless_resets_sent_total")
        assert RESETS.source_burst <= sent < flood

    run_with(tmp_path, scenario)


class Answers:
    """The answers of a listener, and what was counted."""

    def __init__(self, resets: RateLimits = RESETS) -> None:
        self.sent: list[Transmit] = []
        self.counters = Counters()
        self.parameters = server_parameters(reset_token=lambda connection_id: bytes(16))
        self._stateless = StatelessAnswers("127.0.0.1 443", self.counters, self.sent.append, resets)

    def reset(self, source: str, now: float) -> bool:
        """Answer a stray packet; return whether anything was sent."""
        before = len(self.sent)
        header = PacketHeader(PacketType.ONE_RTT, None, b"\0nobody!", b"", 100)
        self._stateless.reset(header, self.parameters, (source, 5), now)
        return len(self.sent) > before

    def counted(self, reason: Reason) -> int:
        name = SlotName("connections_refused_total", tuple(sorted(reason_labels(reason).items())))
        return dict(self.counters.snapshot())[name]


def test_resets_to_one_source_come_back_with_time() -> None:
    answers = Answers()
    assert [answers.reset("192.0.2.1", 1000) for _ in range(RESETS.source_burst + 1)] == [
        *[True] * RESETS.source_burst,
        False,
    ]
    assert answers.reset("192.0.2.2", 1000), "another source has resets of its own"
    of_one = [answers.reset(f"2001:db8::{n:x}", 1000) for n in range(RESETS.source_burst + 1)]
    assert of_one == [*[True] * RESETS.source_burst, False], "a /64 of IPv6 is one source"
    after = 1000 + 1.01 / RESETS.source_per_second
    assert [answers.reset("192.0.2.1", after) for _ in range(2)] == [True, False]
    assert answers.counted(reasons.STATELESS_RESET_RATE) == 3
    assert answers.counted(reasons.UNKNOWN_CONNECTION) == 2 * RESETS.source_burst + 2


def test_resets_of_a_listener_are_limited_whoever_asks() -> None:
    answers = Answers()
    sources = [f"10.{n // 250}.{n % 250}.1" for n in range(RESETS.burst + 100)]
    assert sum(answers.reset(source, 1000) for source in sources) == RESETS.burst
    after = 1000 + 10.01 / RESETS.per_second
    assert sum(answers.reset(f"10.99.{n}.1", after) for n in range(50)) == 10


def test_without_a_limit_every_stray_packet_is_answered() -> None:
    """Attack 22: each stray packet is a question whose answer costs as much."""
    endless = 10**9
    flood = 3 * int(RESETS.burst)
    stopped, taken = Answers(), Answers(RateLimits(endless, endless, endless, endless))
    assert sum(stopped.reset("192.0.2.1", 1000) for _ in range(flood)) == RESETS.source_burst
    assert sum(taken.reset("192.0.2.1", 1000) for _ in range(flood)) == flood
