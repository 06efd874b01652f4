"""What it costs to keep what became of a request, and to find it again."""

import mmap
from typing import Final

from spooky._core.decisions import Notes, Ring, key_of
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls

RING_BYTES: Final = 1 << 20
ID: Final = "0165f1a2b300000001"
RECORD: Final = (
    ID, 7, 1.0, 1.001, 1.002, 1.003, 5, 200, 0, 1024, "h3", "h2", "api", "one", b"GET",
    b"www.example.com", b"/static/images/logo.png",
)  # fmt: skip


def _ring() -> Ring:
    made = Ring(mmap.mmap(-1, 2 * RING_BYTES))
    made.resize(RING_BYTES)
    return made


def _write() -> Work:
    return calls(bool, _ring().write, *RECORD)


def _write_with_notes() -> Work:
    made = _ring()

    def write() -> bool:
        notes = Notes()
        for kind in range(4):
            notes.add(kind, 1.0, 5, "one", 1.0, 2.0)
        return made.write(*RECORD, None, notes)

    return calls(bool, write)


def _find() -> Work:
    made = _ring()
    for number in range(10_000):
        made.write(f"01{number:016x}", *RECORD[1:])
    key = key_of(f"01{9_000:016x}")
    return Work(run=lambda: made.find(key), right=lambda found: found is not None)


CASES: Final = (
    Case("decisions: keep a request", _write),
    Case("decisions: keep a request with four notes", _write_with_notes),
    Case("decisions: find a request in 1 MiB", _find),
)
