"""Field sections parsed by h11, the pure-Python twin.

h11 accepts what RFC 9112 lets a recipient tolerate: bare LF, obs-fold, control bytes in values,
one length said twice. llhttp does not and neither do we, so the section is checked first.
"""

import re
from typing import Final

import h11

from spooky._core import reasons
from spooky.protocol.h1.framing import FramingError
from spooky.protocol.stream import Field

_FIELD_SECTION: Final = re.compile(
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"
)
"""RFC 9112 section 5 to the letter: token, colon, value without control bytes but HTAB, CRLF.

Every repetition is possessive: matching is linear.
"""

_CONTENT_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*([^\r]*)")

_NEUTRAL_START_LINE: Final = b"HTTP/1.1 200 OK\r\n"
_NEUTRAL_REQUEST: Final = h11.Request(method="GET", target="/", headers=[("host", "localhost")])
"""What the section is told to answer: h11 asks a request for its ``Host``, a response for none."""

_UNLIMITED: Final = 1 << 62
"""The section is complete and its size was checked."""


def parse_fields(section: bytes) -> list[Field]:
    """Parse a field section; see :data:`spooky.protocol.h1.engine.FieldParser`."""
    if not _FIELD_SECTION.fullmatch(section):
        raise FramingError(reasons.BAD_FRAMING)
    lengths = _CONTENT_LENGTH.findall(section)
    if len(lengths) > 1 or (lengths and not lengths[0].rstrip(b" \t").isdigit()):
        raise FramingError(reasons.BAD_FRAMING)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_UNLIMITED)
    connection.send(_NEUTRAL_REQUEST)
    connection.receive_data(_NEUTRAL_START_LINE + section)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise FramingError(reasons.BAD_FRAMING) from error
    if not isinstance(event, h11.Response):
        raise FramingError(reasons.BAD_FRAMING)
    return [(bytes(name), bytes(value)) for name, value in event.headers]
