"""Message bodies: read off the wire, and framed for it (RFC 9112 sections 6 and 7)."""

import re
from typing import Final, Protocol

from spooky._core import reasons
from spooky.protocol.h1.engine import FieldParser
from spooky.protocol.h1.framing import FramingError, check_trailers
from spooky.protocol.h1.head import SectionReader
from spooky.protocol.h1.limits import Limits
from spooky.protocol.stream import Field, Fields

MAX_CHUNK_LINE_BYTES: Final = 256
"""A chunk's size with its extensions; nobody knows an extension that is used."""

MAX_CHUNK_EXTENSION_BYTES: Final = 16 * 1024
"""Of all extensions of a body, so that they cannot be what the peer really sends."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED_STRING: Final = rb'"(?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)((?:;%b(?:=(?:%b|%b))?)*+)\r\n" % (_TOKEN, _TOKEN, _QUOTED_STRING)
)
"""RFC 9112 section 7.1, without the whitespace around extensions that nobody should send."""

_LAST_CHUNK: Final = b"0\r\n\r\n"


class BodyReader(Protocol):
    """Takes a body off the wire.

    Attributes:
        ended: Whether the body is complete.
        trailers: What followed it.
    """

    ended: bool
    trailers: list[Field]

    def feed(self, data: bytes, position: int) -> tuple[bytes, int]:
        """Take bytes from a position on.

        Returns:
            The content among them, and the position after the last byte that belongs to the body.

        Raises:
            FramingError: They are not a body.
        """


class LengthReader:
    """A body of known length.

    Arguments:
        length: Its bytes.

    Attributes:
        remaining: Its bytes yet to come.
    """

    __slots__ = ("ended", "remaining", "trailers")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.ended = length == 0
        self.trailers: list[Field] = []

    def feed(self, data: bytes, position: int) -> tuple[bytes, int]:
        content = data[position : position + self.remaining]
        self.remaining -= len(content)
        self.ended = self.remaining == 0
        return content, position + len(content)


class UntilCloseReader:
    """A response body that ends with the connection (RFC 9112 section 6.3 item 8)."""

    __slots__ = ("ended", "trailers")

    def __init__(self) -> None:
        self.ended = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes, position: int) -> tuple[bytes, int]:
        return data[position:], len(data)


class ChunkedReader:
    """A body in chunks (RFC 9112 section 7.1).

    Arguments:
        parse_fields: Parses the trailers.
        limits: What the trailers may be.
    """

    __slots__ = (
        "_chunk_remaining", "_extension_bytes", "_limits", "_line", "_line_end_due",
        "_parse_fields", "_trailer_section", "ended", "trailers",
    )  # fmt: skip

    def __init__(self, parse_fields: FieldParser, limits: Limits) -> None:
        self._parse_fields = parse_fields
        self._limits = limits
        self._chunk_remaining = 0
        # Whether the CRLF behind a chunk's data is to come.
        self._line_end_due = False
        self._line = b""
        self._extension_bytes = 0
        self._trailer_section: SectionReader | None = None
        self.ended = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes, position: int) -> tuple[bytes, int]:
        content: list[bytes] = []
        while position < len(data) and not self.ended:
            if self._trailer_section is not None:
                position = self._read_trailers(self._trailer_section, data, position)
            elif self._chunk_remaining:
                piece = data[position : position + self._chunk_remaining]
                content.append(piece)
                self._chunk_remaining -= len(piece)
                position += len(piece)
            else:
                position = self._read_line(data, position)
        return content[0] if len(content) == 1 else b"".join(content), position

    def _read_line(self, data: bytes, position: int) -> int:
        """Take bytes of the line that ends one chunk or begins the next."""
        end = data.find(b"\n", position) + 1
        limit = 2 if self._line_end_due else MAX_CHUNK_LINE_BYTES
        line = self._line + data[position : end or position + limit + 1]
        if len(line) > limit:
            raise FramingError(reasons.BAD_FRAMING)
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        if not self._line_end_due:
            self._begin_chunk(line)
        elif line == b"\r\n":
            self._line_end_due = False
        else:
            raise FramingError(reasons.BAD_FRAMING)
        return end

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FramingError(reasons.BAD_FRAMING)
        self._extension_bytes += len(match[2])
        if self._extension_bytes > MAX_CHUNK_EXTENSION_BYTES:
            raise FramingError(reasons.BAD_FRAMING)
        self._chunk_remaining = int(match[1], 16)
        self._line_end_due = True
        if self._chunk_remaining == 0:
            # The line end of the last chunk counts as the section's first, so that an empty
            # trailer section ends at its own.
            self._trailer_section = SectionReader(self._limits.max_headers_bytes + 2)
            self._trailer_section.feed(b"\r\n", 0)

    def _read_trailers(self, reader: SectionReader, data: bytes, position: int) -> int:
        section, position = reader.feed(data, position)
        if section is not None:
            if section != b"\r\n\r\n":
                self.trailers = check_trailers(
                    self._parse_fields(section[2:]), self._limits.max_headers_count
                )
            self.ended = True
        return position


class LengthMismatchError(Exception):
    """What we were given to send is not as long as its content-length says."""


class BodyWriter(Protocol):
    """Frames a body for the wire."""

    def frame(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        """Return what to write for a piece of the body.

        Raises:
            LengthMismatchError: The body is longer or, at its end, shorter than declared.
        """

    def finish(self, trailers: Fields) -> bytes:
        """Return what to write at the end; trailers are dropped where there is no place for them.

        Raises:
            LengthMismatchError: The body is shorter than declared.
        """


class NoBodyWriter:
    """The body of a response that has none: whatever is given is dropped."""

    def frame(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        return ()

    def finish(self, trailers: Fields) -> bytes:
        return b""


class LengthWriter:
    """A body of declared length.

    Arguments:
        length: Its bytes.
    """

    __slots__ = ("_remaining",)

    def __init__(self, length: int) -> None:
        self._remaining = length

    def frame(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        self._remaining -= len(data)
        if self._remaining < 0 or (end and self._remaining):
            raise LengthMismatchError
        return (data,)

    def finish(self, trailers: Fields) -> bytes:
        if self._remaining:
            raise LengthMismatchError
        return b""


class UntilCloseWriter:
    """A body that ends with the connection, for HTTP/1.0 clients."""

    def frame(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        return (data,)

    def finish(self, trailers: Fields) -> bytes:
        return b""


class ChunkedWriter:
    """A body in chunks; their sizes are those of bytes in hand (attack 27)."""

    def frame(self, data: bytes, end: bool) -> tuple[bytes, ...]:
        if not data:
            # A chunk of no bytes would be the last one.
            return (_LAST_CHUNK,) if end else ()
        return (b"%x\r\n" % len(data), data, b"\r\n" + _LAST_CHUNK if end else b"\r\n")

    def finish(self, trailers: Fields) -> bytes:
        lines = [b"%b: %b\r\n" % field for field in trailers]
        return b"".join((b"0\r\n", *lines, b"\r\n"))
