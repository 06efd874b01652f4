"""Message heads: found in the byte stream, and taken apart."""

import re
from typing import Final

from spooky._core import reasons
from spooky.protocol.h1.engine import FieldParser
from spooky.protocol.h1.framing import Framing, FramingError, read_framing
from spooky.protocol.h1.limits import Limits
from spooky.protocol.stream import Field

_SECTION_END: Final = re.compile(rb"\n\r?\n")
"""Ends at a bare LF too, so that it is refused at once and not waited out."""

_REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) ([^\x00-\x20\x7f]++) HTTP/([0-9])\.([0-9])\r\n"
)
"""RFC 9112 section 3; which targets are good is for the validator to say."""

_STATUS_LINE: Final = re.compile(
    rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n"
)
"""RFC 9112 section 4. Many servers leave out the space before an empty reason phrase."""

_ABSOLUTE_FORM: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?#]*+)(.*)")
"""RFC 9112 section 3.2.2."""


class SectionReader:
    """Collects the bytes of a head, or of trailers, up to its blank line.

    Takes time and space linear in the section, however its bytes arrive.

    Arguments:
        max_bytes: How long a section may be.
        max_first_line_bytes: How long its first line may be; ``None`` for no limit of its own.
        skip_blank_line: Whether one empty line may come before it (RFC 9112 section 2.2).
    """

    __slots__ = (
        "_buffer", "_max_bytes", "_max_first_line_bytes", "_may_skip", "_searched",
        "_skip_blank_line",
    )  # fmt: skip

    def __init__(
        self,
        max_bytes: int,
        max_first_line_bytes: int | None = None,
        skip_blank_line: bool = False,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_first_line_bytes = max_first_line_bytes
        self._skip_blank_line = self._may_skip = skip_blank_line
        self._buffer = bytearray()
        self._searched = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a section has arrived."""
        return bool(self._buffer)

    def feed(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """Take bytes from a position on.

        Returns:
            The section with its blank line, if it is complete, and the position after it.

        Raises:
            FramingError: The section is too long.
        """
        if not self._buffer:
            if self._may_skip and data.startswith(b"\r\n", position):
                self._may_skip = False
                position += 2
            match = _SECTION_END.search(data, position, position + self._max_bytes)
            if match:
                return self._complete(data[position : match.end()]), match.end()
        return self._feed_in_parts(data, position)

    def _feed_in_parts(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """Take bytes of a section that did not arrive in one piece."""
        buffer = self._buffer
        # Where the buffer begins, as a position in the data.
        origin = position - len(buffer)
        # A blank line to be skipped may be among what is taken.
        buffer += data[position : origin + self._max_bytes + 2]
        if self._may_skip and buffer.startswith(b"\r\n"):
            self._may_skip = False
            del buffer[:2]
            origin += 2
        match = _SECTION_END.search(buffer, self._searched, self._max_bytes)
        if match:
            return self._complete(bytes(buffer[: match.end()])), origin + match.end()
        if len(buffer) >= self._max_bytes:
            self._check_first_line(buffer)
            raise FramingError(reasons.FIELDS_TOO_LARGE)
        # All of the end but its last byte may be there.
        self._searched = max(0, len(buffer) - 2)
        return None, len(data)

    def _complete(self, section: bytes) -> bytes:
        """Get ready for the next section."""
        self._buffer.clear()
        self._searched = 0
        self._may_skip = self._skip_blank_line
        self._check_first_line(section)
        return section

    def _check_first_line(self, section: bytes | bytearray) -> None:
        limit = self._max_first_line_bytes
        if limit is not None and section.find(b"\n", 0, limit) < 0:
            raise FramingError(reasons.TARGET_TOO_LONG)


class RequestHead:
    """A request head.

    Attributes:
        method: As sent.
        minor_version: 0 or 1.
        fields: Pseudo-headers made from the request line, then the fields as they came.
        framing: What the fields say about body and connection.
    """

    __slots__ = ("fields", "framing", "method", "minor_version")

    def __init__(
        self, method: bytes, minor_version: int, fields: list[Field], framing: Framing
    ) -> None:
        self.method = method
        self.minor_version = minor_version
        self.fields = fields
        self.framing = framing


class ResponseHead:
    """A response head.

    Attributes:
        status: 100 to 999.
        minor_version: 0 or 1.
        fields: ``:status``, then the fields as they came.
        framing: What the fields say about body and connection.
    """

    __slots__ = ("fields", "framing", "minor_version", "status")

    def __init__(
        self, status: int, minor_version: int, fields: list[Field], framing: Framing
    ) -> None:
        self.status = status
        self.minor_version = minor_version
        self.fields = fields
        self.framing = framing


def parse_request_head(
    section: bytes, parse_fields: FieldParser, scheme: bytes, limits: Limits
) -> RequestHead:
    """Take a request head apart.

    Arguments:
        section: The head with its blank line.
        scheme: The scheme of requests whose target does not name one.

    Raises:
        FramingError: It is malformed, of another version, has too many fields, or its framing is
            ambiguous.
    """
    line = _REQUEST_LINE.match(section)
    if line is None:
        raise FramingError(reasons.BAD_FRAMING)
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        raise FramingError(reasons.VERSION_NOT_SUPPORTED)
    minor_version = int(minor)
    fields = parse_fields(section[line.end() :])
    if len(fields) > limits.max_headers_count:
        raise FramingError(reasons.TOO_MANY_FIELDS)
    framing = read_framing(fields, minor_version)
    pseudo = _pseudo_headers(method, target, scheme)
    return RequestHead(method, minor_version, pseudo + fields, framing)


def parse_response_head(section: bytes, parse_fields: FieldParser, limits: Limits) -> ResponseHead:
    """Take a response head apart.

    Arguments:
        section: The head with its blank line.

    Raises:
        FramingError: As for requests.
    """
    line = _STATUS_LINE.match(section)
    if line is None:
        raise FramingError(reasons.BAD_FRAMING)
    major, minor, status = line.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        raise FramingError(reasons.VERSION_NOT_SUPPORTED)
    minor_version = int(minor)
    fields = parse_fields(section[line.end() :])
    if len(fields) > limits.max_headers_count:
        raise FramingError(reasons.TOO_MANY_FIELDS)
    framing = read_framing(fields, minor_version)
    return ResponseHead(int(status), minor_version, [(b":status", status), *fields], framing)


def _pseudo_headers(method: bytes, target: bytes, scheme: bytes) -> list[Field]:
    """Return what a request line says as pseudo-headers (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        return [(b":method", method), (b":authority", target)]
    absolute = None if target.startswith(b"/") else _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        return [(b":method", method), (b":scheme", scheme), (b":path", target)]
    named_scheme, authority, path = absolute.groups()
    if method == b"OPTIONS" and not path:
        # RFC 9112 section 3.2.4: the form in which OPTIONS asks about the whole server.
        path = b"*"
    elif not path.startswith(b"/"):
        path = b"/" + path
    return [
        (b":method", method),
        (b":scheme", named_scheme.lower()),
        (b":authority", authority),
        (b":path", path),
    ]
