"""QPACK field sections: what the scan promises, kernel against twin and against the decoder.

The first two bytes are limits: of fields, and of bytes.
"""

from collections.abc import Iterator

import pylsqpack

from spooky._core import qpack as kernel
from spooky._core import sections as kernel_fields
from spooky._core.h3_errors import ProtocolError
from spooky._core.pure import qpack as twin
from spooky._core.pure import sections as twin_fields
from tests.protocol.h3.peers import GET, OK, POST, block

BYTES_UNIT = 16
HUGE = 1 << 30
PREFIX = b"\0\0"
"""As everybody writes it who has no dynamic table. In others lsqpack lets a negative base pass, and
one of more than 62 bits (RFC 9204 sections 4.1.1 and 4.5.1.2)."""


def seeds() -> Iterator[bytes]:
    """Yield blocks that are right, and some that are nearly."""
    fields = [
        [(b"x-y", b"z" * 40)], [(b"cookie", b"a=b"), (b"cookie", b"c")], [(b"a", b"\xff\0")], [],
        [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"123456")],
    ]  # fmt: skip
    for head in (GET, POST, OK, *fields):
        yield b"\x40\xff" + block(head)
        yield b"\2\2" + block(head)
    for text in (
        "0000",
        "0000d1",
        "0000ff24",
        "00005f5000",
        "00002f0000",
        "000027ff80808080",
        "0080",
        "0200d1",
        "000080",
        "000010",
        "00002b8f",
        "0000ffffffffffffffffffff01",
    ):
        yield b"\x40\xff" + bytes.fromhex(text)


def run(data: bytes) -> None:
    """Scan a block and decode it."""
    count, size, *rest = data.ljust(2, b"\0")
    encoded = bytes(rest)
    limits = count, size * BYTES_UNIT
    verdict = kernel.scan(encoded, *limits)
    assert verdict == twin.scan(encoded, *limits)
    decoded = outcome(kernel_fields, encoded, *limits)
    assert decoded == outcome(twin_fields, encoded, *limits)
    if isinstance(decoded, list):
        assert verdict == kernel.WITHIN_LIMITS
        assert len(decoded) <= count
        assert sum(len(name) + len(value) for name, value in decoded) <= limits[1]
        again = kernel_fields.decode_fields(kernel_fields.encode_fields(decoded), HUGE, HUGE)
        assert again == decoded
    elif verdict == kernel.MALFORMED and encoded.startswith(PREFIX):
        # Nothing that a decoder without a dynamic table could have read was refused.
        try:
            pylsqpack.Decoder(0, 0).feed_header(0, encoded)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked):
            return
        raise AssertionError("refused what the decoder reads")


def outcome(build: object, *arguments: object) -> object:
    """Return the fields, the verdict, or what is wrong."""
    try:
        return build.decode_fields(*arguments)  # type: ignore[attr-defined]
    except ProtocolError as error:
        return error.code, error.phrase
