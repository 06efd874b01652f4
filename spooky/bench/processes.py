"""What a process and all its descendants use, from /proc."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

RESET_PEAK: Final = "5"
"""What makes the kernel forget the peak of resident memory (proc(5), clear_refs)."""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; the second may hold spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()


def tree(roots: Iterable[int]) -> list[int]:
    """Return these processes and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used, in user and kernel mode together."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = _stat(pid)
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes; what several share is counted once (PSS)."""
    return sum(_kibibytes(pid, "smaps_rollup", "Pss") for pid in pids) * 1024


def peak_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the peaks of resident memory since :func:`forget_peaks`."""
    return sum(_kibibytes(pid, "status", "VmHWM") for pid in pids) * 1024


def forget_peaks(pids: Iterable[int]) -> None:
    """Begin the peaks of resident memory anew."""
    for pid in pids:
        with contextlib.suppress(OSError):
            (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK)


def _kibibytes(pid: int, file: str, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / file).read_text().splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0])
    return 0
