"""Two endpoints of any engines, and a listener between network and server as the edge has one."""

import io
import secrets
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.packet import encode_quic_retry, pull_quic_header

from spooky.protocol.quic.engines import Engine, Feature
from spooky.protocol.quic.packet import PacketHeader, version_negotiation
from spooky.protocol.quic.session import Address, Datagram, QuicSession
from tests.protocol.quic.support import (
    Endpoints,
    client_parameters,
    open_stream,
    pattern,
    server_parameters,
    upload,
)
from tests.scenario.observer import Observer, Packet
from tests.simnet import CLIENT, SERVER, Link

Engines: TypeAlias = tuple[Engine, Engine]
"""The client's and the server's."""


class Scenario(Endpoints[QuicSession]):
    """A connection that a scenario is about.

    Arguments:
        engines: The client's and the server's.
        seed: Of everything that happens at random.
        link: How datagrams travel.
        client: What to change in the client's parameters.
        server: What to change in the server's.
        retry: Whether clients must prove their address before a server exists.
        address_validated: Whether a token of an earlier connection proved the client's address.
        server_name: What the client asks for.
        addresses: Of the client and the server.
    """

    def __init__(
        self,
        engines: Engines,
        seed: int = 1,
        *,
        link: Link | None = None,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        retry: bool = False,
        address_validated: bool = False,
        server_name: str = "example.test",
        addresses: tuple[Address, Address] = (CLIENT, SERVER),
    ) -> None:
        self._secrets = io.StringIO()
        self._retry = retry
        self._address_validated = address_validated
        self._tokens: dict[bytes, tuple[bytes, bytes]] = {}
        self._addresses = addresses
        self.engines = engines
        super().__init__(
            seed,
            engines=engines,
            link=link,
            client=client_parameters(secrets_log=self._secrets, **(client or {})),
            server=server_parameters(**(server or {})),
            server_name=server_name,
            addresses=addresses,
        )

    def _accept(self, first: Datagram, header: PacketHeader, now: float) -> QuicSession | None:
        answer = version_negotiation(header, self.server_parameters.versions)
        if answer is not None:
            self.network.send(answer, self._addresses[1], first.source)
            return None
        if not header.is_initial:
            return None
        if not self._retry:
            return self.begin(first, header, now, address_validated=self._address_validated)
        token = pull_quic_header(Buffer(data=first.payload)).token
        if token not in self._tokens:
            self._send_retry(first, header)
            return None
        original, ours = self._tokens[token]
        return self.begin(
            first,
            header,
            now,
            original_destination_connection_id=original,
            retry_source_connection_id=ours,
            address_validated=True,
        )

    def _send_retry(self, first: Datagram, header: PacketHeader) -> None:
        token, ours = secrets.token_bytes(40), self._make_id()
        self._tokens[token] = header.destination_connection_id, ours
        retry = encode_quic_retry(
            version=header.version or 0,
            source_cid=ours,
            destination_cid=header.source_connection_id,
            original_destination_cid=header.destination_connection_id,
            retry_token=token,
        )
        self.network.send(retry, self._addresses[1], first.source)

    def those_with(self, feature: Feature) -> list[Any]:
        """Return the sessions whose engine has a feature."""
        sides = zip(self.engines, (self.client, self.server), strict=True)
        return [session for engine, session in sides if feature not in engine.lacks]

    # --- what passes ----------------------------------------------------------------------------

    def start_download(self, size: int, seed: int = 0) -> int:
        """Make a request that the server answers with so many bytes; return its stream."""
        stream = open_stream(self.client)

        def answer(stream_id: int, data: bytes, fin: bool) -> None:
            if stream_id == stream and fin:
                upload(self.server_handler, stream, pattern(size, seed))

        self.server_handler.on_data = answer
        upload(self.client_handler, stream, b"get")
        return stream

    def finish_download(self, stream: int, size: int, seed: int = 0, seconds: float = 120) -> float:
        """Wait for the end of a download and return how long that took; seconds."""
        began = self.network.now
        assert self.run(lambda: stream in self.client_handler.ended, seconds), self.progress()
        assert self.client_handler.data[stream] == pattern(size, seed)
        return self.network.now - began

    def download(self, size: int, seed: int = 0, seconds: float = 120) -> float:
        """Fetch so many bytes, and return how long it took; seconds."""
        return self.finish_download(self.start_download(size, seed), size, seed, seconds)

    def upload(self, size: int, seed: int = 0, seconds: float = 120) -> None:
        """Send so many bytes to the server."""
        stream = open_stream(self.client)
        upload(self.client_handler, stream, pattern(size, seed))
        assert self.run(lambda: stream in self.server_handler.ended, seconds), self.progress()
        assert self.server_handler.data[stream] == pattern(size, seed)

    def progress(self) -> object:
        """Return what to print when something did not end."""
        return {
            "received": {key: len(data) for key, data in self.client_handler.data.items()},
            "closes": (self.client_handler.closes, self.server_handler.closes),
        }

    # --- what was seen ----------------------------------------------------------------------------

    def observe(self) -> tuple[Observer, list[Packet]]:
        """Decrypt what was sent so far."""
        observer = Observer(self._secrets.getvalue(), self._addresses[1])
        return observer, list(observer.read(self.network.sent))

    def packets(self, *, from_server: bool | None = None) -> list[Packet]:
        """Return the packets sent so far, of one side or both."""
        _, packets = self.observe()
        server = self._addresses[1]
        return [p for p in packets if from_server in (None, p.source == server)]


def begin_with(
    pair: Scenario, monkeypatch: pytest.MonkeyPatch, change: Callable[[tls.Context], None]
) -> None:
    """Let a client on aioquic begin, with its TLS changed before each of its first hellos."""
    client: Any = pair.client
    connection = type(client._quic)
    initialize = connection._initialize

    def changed(self: Any, peer_cid: bytes) -> None:
        initialize(self, peer_cid)
        if self is client._quic:
            change(self.tls)

    monkeypatch.setattr(connection, "_initialize", changed)
    client._quic._connect(pair.network.now)
