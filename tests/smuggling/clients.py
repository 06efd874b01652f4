"""Clients that say whatever they are told, malformed or not."""

import asyncio
import contextlib
import ssl

from aioquic.h3.connection import FrameType, encode_frame
from hpack.hpack import encode_integer
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame

from tests.smuggling.cases import Case
from tests.support.client import (
    Headers,
    Http2Client,
    Http2Stream,
    Http3Client,
    Http3Stream,
    request_head,
)
from tests.support.tls import plain_context

ANSWER_SECONDS = 5
"""How long an answer may take; a connection that says nothing by then says no."""

QUIET_SECONDS = 0.02
"""How long more may follow an answer of HTTP/1.1, whose messages end where each side thinks."""


def head(case: Case) -> Headers:
    """Return the head of a request as HTTP/2 and HTTP/3 say it."""
    if case.head:
        return list(case.head)
    fields = [(b":method", case.method), (b":scheme", b"https")]
    if case.authority is not None:
        fields.append((b":authority", case.authority))
    return [*fields, (b":path", case.path), *case.fields]


def message(case: Case) -> bytes:
    """Return a request as HTTP/1.1 says it."""
    if case.raw is not None:
        return case.raw
    lines = [case.method + b" " + case.path + b" HTTP/1.1"]
    if case.authority is not None:
        lines.append(b"host: " + case.authority)
    lines += [name + b": " + value for name, value in case.fields]
    body = case.body or b""
    if case.trailers:
        lines.append(b"transfer-encoding: chunked")
        end = b"".join(name + b": " + value + b"\r\n" for name, value in case.trailers)
        body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, end)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def headers_frame(fields: Headers) -> bytes:
    """Return fields in a HEADERS frame, as literals: a QPACK library refuses some of them."""
    block = b"\0\0"  # No dynamic table (RFC 9204 section 4.5.1).
    for name, value in fields:
        # Literal names (section 4.5.6), without Huffman coding.
        block += hpack_integer(len(name), 0x20, 3) + name
        block += hpack_integer(len(value), 0x00, 7) + value
    return encode_frame(FrameType.HEADERS, block)


FRAME_BYTES = 16384
"""The largest frame of HTTP/2 that everybody takes."""


def headers_frames(stream_id: int, fields: Headers, end: bool) -> bytes:
    """Return fields in HEADERS and CONTINUATION frames, as literals without a name of the table."""
    block = b""
    for name, value in fields:
        # RFC 7541 section 6.2.2, without Huffman coding.
        block += b"\0" + hpack_integer(len(name), 0, 7) + name
        block += hpack_integer(len(value), 0, 7) + value
    pieces = [block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES)]
    first = HeadersFrame(stream_id, pieces[0], flags=["END_STREAM"] if end else [])
    rest = [ContinuationFrame(stream_id, piece) for piece in pieces[1:]]
    frames = [first, *rest]
    frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in frames)


def hpack_integer(value: int, flags: int, prefix_bits: int) -> bytes:
    """Return an integer with a prefix (RFC 7541 section 5.1)."""
    encoded = encode_integer(value, prefix_bits)
    encoded[0] |= flags
    return bytes(encoded)


class Sender:
    """Says cases one after another in one protocol.

    Attributes:
        protocol: ``h3``, ``h2`` or ``h1``.
    """

    def __init__(self, protocol: str, port: int) -> None:
        self.protocol = protocol
        self._port = port
        self._h2: Http2Client | None = None
        self._h3: Http3Client | None = None

    async def say(self, case: Case) -> str:
        """Say one case; return the status of the answer, or what was there instead."""
        say = {"h1": self._say_h1, "h2": self._say_h2, "h3": self._say_h3}[self.protocol]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await say(case)
        except TimeoutError:
            await self.close()
            return "silence"

    async def close(self) -> None:
        """Close what is open."""
        if self._h2 is not None:
            await self._h2.close()
        if self._h3 is not None:
            await self._h3.close()
        self._h2 = self._h3 = None

    async def _say_h1(self, case: Case) -> str:
        context = plain_context()
        context.set_alpn_protocols(["http/1.1"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=context, server_hostname="localhost"
        )
        received = b""
        try:
            writer.write(message(case))
            received = await reader.read(65536)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    while data := await reader.read(65536):
                        received += data
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()
        return received[9:12].decode() if received.startswith(b"HTTP/1.") else "closed"

    async def _say_h2(self, case: Case) -> str:
        client = self._h2
        if client is None or client.ending:
            client = self._h2 = await Http2Client.connect(self._port, plain_context())
        stream_id = client.h2.get_next_available_stream_id()
        opened = client._streams[stream_id] = Http2Stream(client, stream_id)
        # h2 must know the stream, to read the answer; what it would say is not what is said.
        client.h2.send_headers(stream_id, request_head("GET", "/", None), end_stream=True)
        client.h2.data_to_send()
        end = case.body is None and not case.trailers
        frames = headers_frames(stream_id, head(case), end)
        if case.body is not None:
            data = DataFrame(stream_id, case.body, flags=[] if case.trailers else ["END_STREAM"])
            frames += data.serialize()
        if case.trailers:
            frames += headers_frames(stream_id, list(case.trailers), True)
        client.writer.write(frames)
        response = await opened.whole()
        return str(response.status) if response.status else response.cut or "closed"

    async def _say_h3(self, case: Case) -> str:
        client = self._h3
        if client is None or client.ending:
            if client is not None:
                await client.close()
            client = self._h3 = await Http3Client.connect(self._port)
        protocol = client.protocol
        stream_id = protocol._quic.get_next_available_stream_id()
        opened = protocol.streams[stream_id] = Http3Stream(client, stream_id)
        if case.method == b"HEAD":
            protocol.http.bodiless.add(stream_id)
        quic = protocol._quic
        quic.send_stream_data(
            stream_id, headers_frame(head(case)), case.body is None and not case.trailers
        )
        if case.body is not None:
            data = encode_frame(FrameType.DATA, case.body)
            quic.send_stream_data(stream_id, data, not case.trailers)
        if case.trailers:
            quic.send_stream_data(stream_id, headers_frame(list(case.trailers)), True)
        protocol.transmit()
        response = await opened.whole()
        return str(response.status) if response.status else response.cut or "closed"
