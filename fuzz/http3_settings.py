"""SETTINGS and other frames of HTTP/3 by themselves: kernel against twin, and cut anywhere.

The first byte says where the bytes are cut when they come as a stream of frames.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from spooky._core import h3_frames as kernel
from spooky._core.h3_errors import H3_FRAME_ERROR, H3_SETTINGS_ERROR, ProtocolError
from spooky._core.pure import h3_frames as twin

STOPS_AT = 0x40


def seeds() -> Iterator[bytes]:
    """Yield settings, right and wrong, and frames."""
    for settings in ({}, {1: 0, 6: 16_384, 7: 0}, {0x33: 1, 8: 1}, {0x21: 1 << 61}, {2: 1}, {4: 0}):
        frame = kernel.encode_settings(settings)
        yield b"\1" + frame
        yield b"\3" + frame[2:]
    yield b"\2" + b"\x06\x01\x06\x01"
    yield b"\5" + kernel.encode_frame(0, b"data") + kernel.encode_frame(7, b"\x40\x04")
    yield b"\4" + kernel.encode_frame(0x21, b"grease") + kernel.encode_frame(STOPS_AT, b"x")
    yield b"\7" + b"\xc0\0\0\0\0\0\0\x04\x80\0\0\x02\x40\x06\x01"


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or what is wrong."""
    try:
        return call(*arguments)
    except ProtocolError as error:
        assert error.code in (H3_FRAME_ERROR, H3_SETTINGS_ERROR)
        return error.code, error.phrase


def reader(build: ModuleType) -> Any:
    """Return a reader that gathers every other type of frame, and notes all it sees."""

    class Reader(build.FrameReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.log: list[tuple[Any, ...]] = []

        def _begin_frame(self, kind: int, length: int) -> bool:
            self.log.append(("begin", kind, length))
            self._stopped = kind == STOPS_AT
            return kind % 2 == 1

        def _take_frame(self, kind: int, payload: bytes, at_end: bool) -> None:
            self.log.append(("whole", kind, payload))

        def _take_piece(self, kind: int, piece: bytes, at_end: bool) -> None:
            last = self.log[-1]
            if last[:2] == ("piece", kind):
                self.log[-1] = ("piece", kind, last[2] + piece)
            else:
                self.log.append(("piece", kind, piece))

    return Reader()


KERNEL_READER, TWIN_READER = (lambda build=build: reader(build) for build in (kernel, twin))


def read(readers: Callable[[], Any], pieces: list[bytes]) -> Any:
    """Return what a reader saw."""
    found = readers()
    for piece in pieces:
        found.read(piece)
    return found.log, found.ends_within_frame


def run(data: bytes) -> None:
    """Read an input as settings, as one integer, and as a stream of frames."""
    step, wire = 1 + (data[0] if data else 0) % 32, data[1:]
    for name in ("parse_settings", "parse_single_varint"):
        assert outcome(getattr(kernel, name), wire) == outcome(getattr(twin, name), wire)
    for name in ("read_varint", "parse_frame_header"):
        for at in (0, step):
            assert outcome(getattr(kernel, name), wire, at) == outcome(
                getattr(twin, name), wire, at
            )
    settings = outcome(kernel.parse_settings, wire)
    if isinstance(settings, dict):
        assert not kernel.HTTP2_SETTINGS & settings.keys()
        header = kernel.parse_frame_header(kernel.encode_settings(settings), 0)
        assert header is not None
        assert kernel.parse_settings(kernel.encode_settings(settings)[header[2] :]) == settings
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    whole = read(KERNEL_READER, [wire])
    assert whole == read(KERNEL_READER, pieces)
    assert whole == read(TWIN_READER, pieces)
