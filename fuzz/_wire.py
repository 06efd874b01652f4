"""How bytes of a connection are cut: at every byte, or where a number says."""

import random
from collections.abc import Iterator


def cut(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces; of one byte each for 0, else of what the seed says."""
    chance = random.Random(seed)
    position = 0
    while position < len(data):
        size = chance.choice((1, 2, 7, 30, 400)) if seed else 1
        yield data[position : position + size]
        position += size
