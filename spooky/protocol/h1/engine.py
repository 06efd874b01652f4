"""The seam between our sessions and the library that parses field sections.

httptools (llhttp) can neither stop at the end of a message nor say where in its input that was,
so it cannot be given a connection's bytes: the requests pipelined behind a chunked body would be
parsed before the first is answered. It is given one whole field section at a time. Where sections
start and end, start lines and bodies are ours (:mod:`.head`, :mod:`.framing`, :mod:`.body`), the
same for both engines.
"""

from collections.abc import Callable
from typing import TypeAlias

from spooky._core import COMPILED
from spooky.protocol.h1.limits import Engine
from spooky.protocol.stream import Field

FieldParser: TypeAlias = Callable[[bytes], list[Field]]
"""Parses field lines and the blank line after them, from a head or from trailers.

Names come out in lowercase, values without the whitespace around them. Codings are
case-insensitive, and h11 gives them in lowercase.

Raises:
    FramingError: A line is not a field line by the letter of RFC 9112 section 5, or
        ``Content-Length`` or ``Transfer-Encoding`` are such that the engine refuses them.
"""


def field_parser(engine: Engine | None = None) -> FieldParser:
    """Return the parser of an engine, or of the one that belongs to this build."""
    if engine is None:
        engine = "httptools" if COMPILED else "h11"
    if engine == "httptools":
        from spooky.protocol.h1 import fields_httptools

        return fields_httptools.parse_fields
    from spooky.protocol.h1 import fields_h11

    return fields_h11.parse_fields
