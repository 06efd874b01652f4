"""How bytes of an HTTP/1.1 connection are cut, and what of that may be seen."""

import random
from collections.abc import Iterator

from tests.protocol.h1.peers import Event, Recorder, traced


def cut(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces: of one byte each for 0, else as the seed says."""
    chance = random.Random(seed)
    position = 0
    while position < len(data):
        size = chance.choice((1, 2, 7, 30, 400)) if seed else 1
        yield data[position : position + size]
        position += size


def heard(request: Recorder) -> list[Event]:
    """Return what is heard of a message whatever the cuts and the engine.

    How much of a body comes before a reset depends on the cuts. Codings are case-insensitive, and
    h11 gives them in lowercase.
    """
    events = traced(request.events)
    if request.reset_code() is not None:
        events = [event for event in events if event[0] != "data"]
    return [_lowered(event) for event in events]


def _lowered(event: Event) -> Event:
    if event[0] not in ("head", "informational"):
        return event
    name, fields, *rest = event
    return (
        name,
        [
            (key, value.lower() if key == b"transfer-encoding" else value)
            for key, value in fields  # type: ignore[attr-defined]
        ],
        *rest,
    )
