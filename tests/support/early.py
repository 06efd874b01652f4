"""A client of HTTP/3, on aioquic, that sends requests in 0-RTT data, datagram by datagram."""

import asyncio
import json
import socket
import ssl
from typing import Any

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.tls import SessionTicket

Headers = list[tuple[bytes, bytes]]

ANSWER_SECONDS = 30


class EarlyClient:
    """One connection.

    Arguments:
        port: The proxy's.
        ticket: Of an earlier connection; without one everything is sent after the handshake.
        connection_id: What its first packets are addressed to.

    Attributes:
        tickets: What the proxy gave.
        taken: Whether the proxy took 0-RTT data, once the handshake is complete.
        responses: Heads and bodies by stream.
    """

    def __init__(
        self, port: int, ticket: SessionTicket | None = None, connection_id: bytes | None = None
    ) -> None:
        self.tickets: list[SessionTicket] = []
        self.taken: bool | None = None
        self.responses: dict[int, tuple[dict[bytes, bytes], bytearray]] = {}
        self._whole: set[int] = set()
        self._server = ("127.0.0.1", port)
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self.quic = QuicConnection(
            configuration=QuicConfiguration(
                alpn_protocols=H3_ALPN,
                verify_mode=ssl.CERT_NONE,
                server_name="localhost",
                session_ticket=ticket,
            ),
            session_ticket_handler=self.tickets.append,
        )
        if connection_id is not None:
            self.quic._peer_cid.cid = connection_id
            self.quic._original_destination_connection_id = connection_id
        self.quic.connect(self._server, self._now)
        self._h3 = H3Connection(self.quic) if ticket is not None else None

    def __enter__(self) -> "EarlyClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def request(self, method: str, path: str, headers: Headers | None = None) -> int:
        """Say a request without a body; nothing leaves yet."""
        if self._h3 is None:
            self._h3 = H3Connection(self.quic)
        stream = self.quic.get_next_available_stream_id()
        pseudo = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        fields = [(name.encode(), value.encode()) for name, value in pseudo.items()]
        self._h3.send_headers(stream, fields + (headers or []), True)
        return stream

    def pending(self) -> list[bytes]:
        """Return the datagrams to send now."""
        return [datagram for datagram, _ in self.quic.datagrams_to_send(self._now)]

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.sendto(datagram, self._server)

    async def listen(self, *, answering: bool = True) -> None:
        """Take one datagram, and send what it causes."""
        loop = asyncio.get_running_loop()
        datagram = await asyncio.wait_for(loop.sock_recv(self._socket, 2048), ANSWER_SECONDS)
        self.quic.receive_datagram(datagram, self._server, self._now)
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.taken = event.early_data_accepted
            if isinstance(event, ConnectionTerminated):
                raise ConnectionError(event)
            for part in self._h3.handle_event(event) if self._h3 is not None else []:
                if isinstance(part, HeadersReceived):
                    self.responses[part.stream_id] = dict(part.headers), bytearray()
                elif isinstance(part, DataReceived):
                    self.responses[part.stream_id][1].extend(part.data)
                if isinstance(part, HeadersReceived | DataReceived) and part.stream_ended:
                    self._whole.add(part.stream_id)
        if answering:
            self.send(*self.pending())

    async def response(self, stream: int, *, answering: bool = True) -> tuple[int, Any]:
        """Return status and body of a whole response; that of /inspect parsed."""
        while stream not in self._whole:
            await self.listen(answering=answering)
        headers, body = self.responses[stream]
        text = bytes(body)
        parsed = json.loads(text) if text.startswith(b"{") else text
        return int(headers[b":status"]), parsed

    async def fetch(self, method: str, path: str, headers: Headers | None = None) -> Any:
        """Make a request and return status and body."""
        stream = self.request(method, path, headers)
        self.send(*self.pending())
        return await self.response(stream)


async def ticket_from(port: int, connection_id: bytes | None = None) -> SessionTicket:
    """Connect once, for a ticket."""
    with EarlyClient(port, connection_id=connection_id) as client:
        client.send(*client.pending())
        while not client.tickets:
            await client.listen()
        client.quic.close()
        client.send(*client.pending())
        return client.tickets[0]


def early_field(inspected: Any) -> list[str]:
    """Return the values of ``Early-Data`` that a backend got."""
    return [value for name, value in inspected["headers"] if name.lower() == "early-data"]
