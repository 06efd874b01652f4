"""Control messages of a received datagram: both builds read the same, whatever they are."""

import struct
from collections.abc import Iterator

from spooky._core import udp
from spooky._core.pure import udp as twin


def message(level: int, kind: int, content: bytes) -> bytes:
    """Return a control message without its padding."""
    return struct.pack("@Nii", 16 + len(content), level, kind) + content


def seeds() -> Iterator[bytes]:
    """Yield each message that is understood, and padded ones together."""
    each = [
        message(*twin.GRO, struct.pack("@i", 1200)),
        message(*twin.TOS, b"\2"),
        message(*twin.TCLASS, struct.pack("@i", 1)),
        message(*twin.PKTINFO, bytes(8) + b"\x7f\0\0\1"),
        message(*twin.PKTINFO6, bytes(range(20))),
    ]
    yield from each
    yield b"".join(one.ljust(-(-len(one) // 8) * 8, b"\0") for one in each)


def run(data: bytes) -> None:
    """Read control messages with both builds."""
    assert udp.read_control(data) == twin.read_control(data)
