"""The ring of recent decisions: found again, bounded, whole whoever dies, alike in both builds."""

import mmap
import os
import struct
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky import _core
from spooky._core import decisions
from spooky._core.decisions import (
    HOST_MAX,
    METHOD_MAX,
    NAME_MAX,
    NOTES_CUT,
    NOTES_MAX_BYTES,
    PATH_CUT,
    PATH_MAX,
    RING_HEAD_BYTES,
    RING_MIN_BYTES,
    Notes,
    Ring,
    key_of,
)
from spooky._core.pure import decisions as pure

AREA = RING_HEAD_BYTES + 2 * RING_MIN_BYTES


def ring(build: ModuleType = decisions, area: mmap.mmap | None = None) -> Ring:
    made: Ring = build.Ring(area if area is not None else mmap.mmap(-1, AREA))
    made.resize(RING_MIN_BYTES)
    return made


def request_id(number: int) -> str:
    return f"07{number:016x}"


def write(into: Ring, number: int, path: bytes = b"/", notes: Notes | None = None) -> bool:
    return into.write(
        request_id(number), 3, 1.0, 2.0, 3.0, 4.0, 5, 200, number, number, "h3", "h2", "api",
        "one", b"GET", b"example.com", path, None, notes,
    )  # fmt: skip


def received(record: bytes) -> int:
    return int(decisions.RECORD.unpack_from(record)[11])


def test_each_of_the_last_requests_is_found_and_older_ones_are_not() -> None:
    made = ring()
    for number in range(5_000):
        assert write(made, number, b"/" + b"x" * (number % 97))
    found = [number for number in range(5_000) if made.find(number) is not None]
    assert found == list(range(found[0], 5_000))
    assert 200 < len(found) < RING_MIN_BYTES // 96
    assert all(received(made.find(number)) == number for number in found)
    assert received(made.oldest()) == found[0]
    assert [received(one) for one in made.recent(3)] == [4_997, 4_998, 4_999]
    assert made.recent(0) == []
    assert made.has_forgotten
    assert made.written == 5_000


def test_nothing_is_kept_without_room_and_nothing_outlives_another_size() -> None:
    made = Ring(mmap.mmap(-1, AREA))
    assert not write(made, 1)
    assert (made.capacity, made.find(1), made.oldest(), made.recent(9)) == (0, None, None, [])
    made.resize(1)
    assert made.capacity == RING_MIN_BYTES
    assert write(made, 1)
    made.resize(RING_MIN_BYTES)
    assert made.find(1) is not None
    made.resize(1 << 40)
    assert made.capacity == 2 * RING_MIN_BYTES
    assert made.find(1) is None
    assert write(made, 2)
    assert made.find(2) is not None
    made.resize(0)
    assert made.find(2) is None
    with pytest.raises(ValueError, match="too small"):
        Ring(mmap.mmap(-1, RING_MIN_BYTES))


def test_what_is_too_long_is_cut_and_said_to_be() -> None:
    made = ring()
    notes = Notes()
    while notes.add(1, 1.0, 2, "n" * 400):
        pass
    assert len(notes.data()) <= NOTES_MAX_BYTES
    assert (notes.dropped, notes.count) == (1, NOTES_MAX_BYTES // (decisions.NOTE.size + NAME_MAX))
    write(made, 1, b"/" + b"p" * 9_999, notes)
    record = made.find(1)
    flags, count, *lengths = decisions.RECORD.unpack_from(record)[15:]
    assert flags == PATH_CUT | NOTES_CUT
    assert (count, lengths[-2], lengths[-1]) == (notes.count, PATH_MAX, len(notes.data()))
    assert notes.data() in record
    made.write(
        request_id(2), 1, 0, 0, 0, 0, 0, 0, 0, 0, "h" * 999, "é" * 999, "", "", b"M" * 99,
        b"h" * 999, b"",
    )  # fmt: skip
    lengths = decisions.RECORD.unpack_from(made.find(2))[17:23]
    assert lengths == (NAME_MAX, NAME_MAX, 0, 0, METHOD_MAX, HOST_MAX)


@pytest.mark.parametrize(
    "wrong", ["", "07", "07" + "0" * 15, "07" + "0" * 17, "07" + "G" * 16, "07" + "-" * 16]
)
def test_an_id_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        key_of(wrong)
    with pytest.raises(ValueError, match="request id"):
        ring().write(
            wrong, 1, 0, 0, 0, 0, 0, 0, 0, 0, "", "", "", "", b"", b"", b""
        )  # fmt: skip


def test_a_writer_that_dies_within_a_record_leaves_the_others_whole() -> None:
    area = mmap.mmap(-1, AREA)
    made = ring(area=area)
    for number in range(1_000):
        write(made, number)
    head, tail = struct.unpack_from("<QQ", area, 8)
    gone = struct.unpack_from("<I", area, RING_HEAD_BYTES + tail % RING_MIN_BYTES)[0]
    struct.pack_into("<Q", area, 16, tail + gone)
    at = RING_HEAD_BYTES + head % RING_MIN_BYTES
    area[at : at + 40] = b"\xff" * 40
    successor = Ring(area)
    assert [received(one) for one in successor.recent(2)] == [998, 999]
    oldest = received(successor.oldest())
    write(successor, 1_000)
    assert [received(one) for one in successor.recent(2)] == [999, 1_000]
    assert successor.find(oldest - 1) is None


@pytest.mark.parametrize("build", [decisions, pure])
def test_a_ring_full_of_nonsense_harms_nobody(build: ModuleType) -> None:
    for seed in range(40):
        area = mmap.mmap(-1, AREA)
        area[:] = bytes((byte * 31 + seed * 7 + byte // 251) & 255 for byte in range(AREA))
        struct.pack_into(
            "<QQQ", area, 0, (RING_MIN_BYTES, 1 << 60)[seed % 2], 10**6 * seed, 8 * seed
        )
        made = build.Ring(area)
        made.find(1)
        made.oldest()
        made.recent(10)
        made.resize(2 * RING_MIN_BYTES)
        assert write(made, 5)
        assert received(made.find(5)) == 5


def test_a_reader_beside_a_fast_writer_gets_whole_records_or_none() -> None:
    area = mmap.mmap(-1, AREA)
    made = ring(area=area)
    child = os.fork()
    if child == 0:
        writer = Ring(area)
        number = 0
        while struct.unpack_from("<Q", area, 56)[0] == 0:
            for _ in range(64):
                number += 1
                write(writer, number, b"/" + b"x" * (number % 301))
        os._exit(0)
    seen = 0
    try:
        while seen < 300:
            for record in made.recent(40):
                key, count = decisions.RECORD.unpack_from(record)[5], received(record)
                assert count == key
                path = decisions.RECORD.unpack_from(record)[-2]
                assert path == 1 + key % 301
                again = made.find(key)
                assert again is None or again == record
                seen += 1
    finally:
        struct.pack_into("<Q", area, 56, 1)
        assert os.waitpid(child, 0)[1] == 0


TEXT = st.text(max_size=40) | st.just("é" * 200)
OCTETS = st.binary(max_size=60) | st.binary(min_size=500, max_size=600)
NUMBER = st.integers(0, 2**64 - 1)
PLACE = st.integers(-3, 2**40)
MOMENT = st.floats(allow_nan=False)
NOTE = st.tuples(
    st.integers(0, 300), MOMENT, st.integers(0, 70_000), TEXT, MOMENT, MOMENT, MOMENT, MOMENT
)
WRITE = st.tuples(
    st.integers(0, 30).map(request_id), NUMBER, MOMENT, MOMENT, MOMENT, MOMENT,
    st.integers(0, 70_000), st.integers(0, 70_000), NUMBER, NUMBER, TEXT, TEXT, TEXT, TEXT,
    OCTETS, OCTETS, OCTETS, st.none() | st.lists(st.tuples(TEXT, PLACE, PLACE), max_size=8),
    st.none() | st.lists(NOTE, max_size=90),
)  # fmt: skip
STEP = WRITE | st.integers(0, 3 * RING_MIN_BYTES)


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=20), st.integers(1, 60))
def test_both_builds_leave_the_same_bytes_and_find_the_same(steps: list, repeats: int) -> None:
    areas = mmap.mmap(-1, AREA), mmap.mmap(-1, AREA)
    rings = [ring(build, area) for build, area in zip((decisions, pure), areas, strict=True)]
    for step in steps * repeats:
        results = []
        for build, made in zip((decisions, pure), rings, strict=True):
            if isinstance(step, int):
                results.append(made.resize(step if step % 7 == 0 else RING_MIN_BYTES))
                continue
            *plain, stages, listed = step
            admitted = None if stages is None else build.Admitted()
            for stage in stages or ():
                admitted.add(*stage)
                admitted.add_candidate(len(stage[0]), True, stage[1], 1.5, -1.0, 0.25)
            notes = None if listed is None else build.Notes()
            added = [notes.add(*note) for note in listed or ()]
            results.append((added, made.write(*plain, admitted, notes)))
        assert results[0] == results[1]
    assert areas[0][:] == areas[1][:]
    for number in range(31):
        assert rings[0].find(number) == rings[1].find(number)
    assert rings[0].oldest() == rings[1].oldest()
    assert rings[0].recent(7) == rings[1].recent(7)
    # Each reads what the other wrote.
    assert pure.Ring(areas[0]).recent(9) == decisions.Ring(areas[1]).recent(9)


@pytest.mark.parametrize("build", [decisions, pure])
@pytest.mark.parametrize(
    ("head", "tail"),
    [(1 << 63, 0), (2**64 - 8, 2**64 - 80), (8, 80), (1 << 40, 8), (4_003, 4_001), (800, 3)],
)
def test_head_and_tail_that_cannot_be_are_an_empty_ring_and_mended_by_the_writer(
    build: ModuleType, head: int, tail: int
) -> None:
    for mend in (True, False):
        area = mmap.mmap(-1, AREA)
        made = ring(build, area)
        for number in range(600):
            write(made, number)
        struct.pack_into("<QQ", area, 8, head, tail)
        assert (made.find(599), made.oldest(), made.recent(9)) == (None, None, [])
        if mend:
            made.resize(RING_MIN_BYTES)
        assert write(made, 7)
        assert [received(one) for one in made.recent(9)] == [7]
        assert made.find(7) == made.oldest() == made.recent(1)[0]


@pytest.mark.parametrize("build", [decisions, pure])
def test_a_capacity_smaller_than_a_record_is_none(build: ModuleType) -> None:
    area = mmap.mmap(-1, AREA)
    made = ring(build, area)
    struct.pack_into("<Q", area, 0, 8)
    assert (made.capacity, made.find(1), write(made, 1)) == (0, None, False)


@pytest.mark.parametrize("build", [decisions, pure])
def test_a_walk_ends_at_a_size_that_cannot_be(build: ModuleType) -> None:
    for size in (0, 4, 8, RING_MIN_BYTES, 2**32 - 8):
        area = mmap.mmap(-1, AREA)
        made = ring(build, area)
        write(made, 1)
        second = struct.unpack_from("<Q", area, 8)[0]
        write(made, 2)
        struct.pack_into("<I", area, RING_HEAD_BYTES + second, size)
        assert made.find(2) is None
        assert [received(one) for one in made.recent(9)] == [1]
