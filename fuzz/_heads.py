"""Heads as inputs: fields cut by two bytes that mutations leave whole, and names by number.

A name of one byte stands for one of :data:`NAMES`, so that a change of one byte makes another
field that means something, and not one with a name that nobody knows.
"""

from typing import Any

Field = tuple[bytes, bytes]

NAME_END, FIELD_END = b"\xfd", b"\xfe"
"""Obs-text in values is other bytes."""

NAMES = (
    b":method", b":scheme", b":authority", b":path", b":status", b":protocol", b"host",
    b"content-length", b"transfer-encoding", b"te", b"expect", b"connection", b"upgrade",
    b"keep-alive", b"proxy-connection", b"trailer", b"cookie", b"forwarded", b"x-forwarded-for",
    b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"authorization",
    b"proxy-authorization", b"proxy-authenticate", b"set-cookie", b"range", b"accept", b"x-y",
    b"Host", b"x_y", b"",
)  # fmt: skip

GET = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
)


def encode(*fields: Field) -> bytes:
    """Encode a head as an input."""
    return FIELD_END.join(
        (bytes((NAMES.index(name),)) if name in NAMES else name) + NAME_END + value
        for name, value in fields
    )


def decode(data: bytes) -> list[Field]:
    """Decode an input."""
    fields = []
    for piece in data.split(FIELD_END) if data else ():
        name, _, value = piece.partition(NAME_END)
        if len(name) == 1:
            name = NAMES[name[0] % len(NAMES)]
        fields.append((name, value))
    return fields


def values(result: Any, attributes: tuple[str, ...]) -> Any:
    """Return what a head holds, or the reason itself."""
    if type(result).__name__ == "Reason":
        return result
    return [getattr(result, attribute) for attribute in attributes]
