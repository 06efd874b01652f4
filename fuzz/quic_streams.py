"""Streams of a server: frames in any order, with calls of the application between them.

Only what is foreseen may be raised, nothing follows the end of a stream, and what is closed holds
nothing any more. The streams exist compiled only.
"""

from collections.abc import Iterator

from atheris import FuzzedDataProvider  # type: ignore[import-not-found]

from spooky import _core

if _core.COMPILED:
    from tests.core.quic.stream_walk import walk


def seeds() -> Iterator[bytes]:
    """Yield inputs that reach far, since each byte of them is some step."""
    for index in range(16):
        yield bytes((index * 7 + 31 * place + place * place * index) % 256 for place in range(600))


def run(data: bytes) -> None:
    """Take the steps that an input chooses."""
    if _core.COMPILED:
        walk(FuzzedDataProvider(data))
