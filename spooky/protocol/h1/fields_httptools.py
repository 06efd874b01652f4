"""Field sections parsed by llhttp.

llhttp's defaults are strict in everything that matters here; ``tests/protocol/h1`` has a case for
each rule, so that a release with other defaults does not pass unnoticed.
"""

from typing import Final

from httptools import HttpParserError, HttpResponseParser

from spooky._core import reasons
from spooky.protocol.h1.framing import FramingError
from spooky.protocol.stream import Field

_NEUTRAL_START_LINE: Final = b"HTTP/1.1 200 OK\r\n"
"""Put before every section: as a response, ``Upgrade`` and CONNECT do not switch the parser over,
and methods that llhttp does not know are no concern of it."""


class _Collector:
    """What llhttp calls back."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the whitespace behind a value in place.
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_fields(section: bytes) -> list[Field]:
    """Parse a field section; see :data:`spooky.protocol.h1.engine.FieldParser`."""
    collector = _Collector()
    try:
        HttpResponseParser(collector).feed_data(_NEUTRAL_START_LINE + section)
    except HttpParserError as error:
        raise FramingError(reasons.BAD_FRAMING) from error
    if not collector.complete:
        raise FramingError(reasons.BAD_FRAMING)
    return collector.fields
