"""What a request head pays to learn which generation is in force."""

from typing import Any

from spooky._core.shared import Segment, segment_size

LOOKS = 1000


def test_comparing_the_number_of_the_generation_in_force(benchmark: Any) -> None:
    """Divide by ``LOOKS``: one look must cost less than 0.1 us."""
    segment = Segment(bytearray(segment_size(1)), 1)
    segment.commit(7)

    def look() -> bool:
        number = 7
        return any(segment.generation != number for _ in range(LOOKS))

    assert benchmark(look) is False
