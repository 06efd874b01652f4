"""How much memory there is and how much of it is used: cgroups, processes, the machine."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

KIBIBYTE: Final = 1024

GIVEN_BACK: Final = ("inactive_file", "active_file", "slab_reclaimable")
"""What the kernel gives back when anybody wants memory: a cgroup that holds it is not short."""

GIVEN_BACK_V1: Final = ("total_inactive_file", "total_active_file")
"""The same in version 1, which does not say how much of the kernel's own memory it is."""

UNLIMITED: Final = 1 << 60
"""A cgroup of version 1 without a limit has one beyond any machine's memory."""


class Usage(NamedTuple):
    """Memory that is used, and how much may be.

    Attributes:
        used: Bytes.
        limit: Bytes.
        source: Whose limit it is, for people.
    """

    used: int
    limit: int
    source: str

    @property
    def pressure(self) -> float:
        """The share that is used."""
        return self.used / self.limit if self.limit > 0 else 0.0


class MemoryReader:
    """Reads memory from the files of the kernel.

    Arguments:
        root: Where ``/proc`` and ``/sys`` are; another place for tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._cgroups = root / "sys/fs/cgroup"

    def read(self, pids: Iterable[int], max_bytes: int | None) -> Usage:
        """Return the usage that is nearest to its limit.

        What cannot be read is left out; if nothing can be, there is no pressure.

        Arguments:
            pids: Processes whose memory counts against the limit of all.
            max_bytes: That limit; ``None`` for the memory of the machine.
        """
        usages = list(self._in_cgroups())
        limit, source = max_bytes, "memory_max_bytes"
        if limit is None:
            limit, source = self._physical(), "the machine"
        used = sum(map(self._anonymous, pids))
        usages.append(Usage(used, limit, source))
        return max(usages, key=lambda usage: usage.pressure)

    # --- processes ----------------------------------------------------------------------------

    def _anonymous(self, pid: int) -> int:
        """Return what a process alone holds: no files, and not what processes share."""
        return _field(self._proc / str(pid) / "status", "RssAnon:") * KIBIBYTE

    def _physical(self) -> int:
        return _field(self._proc / "meminfo", "MemTotal:") * KIBIBYTE

    # --- cgroups ------------------------------------------------------------------------------

    def _in_cgroups(self) -> Iterator[Usage]:
        """Yield the usage of each cgroup that we are in, and of those above, that has a limit."""
        try:
            lines = (self._proc / "self/cgroup").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if not controllers:
                mount = self._cgroups
                unified = mount / "unified"
                for place in _upwards(unified if unified.is_dir() else mount, path):
                    yield from _usage(place, "memory.max", "memory.current", GIVEN_BACK)
            elif "memory" in controllers.split(","):
                for place in _upwards(self._cgroups / "memory", path):
                    yield from _usage(
                        place,
                        "memory.limit_in_bytes",
                        "memory.usage_in_bytes",
                        GIVEN_BACK_V1,
                    )


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the place of a cgroup, and those above it; in a container only what it sees."""
    place = mount / path.lstrip("/")
    while place != mount and mount in place.parents:
        yield place
        place = place.parent
    yield mount


def _usage(
    place: Path, limit_name: str, used_name: str, given_back: tuple[str, ...]
) -> Iterator[Usage]:
    with contextlib.suppress(OSError, ValueError):
        # "max" is no number: there is no limit.
        limit = int((place / limit_name).read_text())
        if limit < UNLIMITED:
            used = int((place / used_name).read_text())
            used -= sum(_field(place / "memory.stat", name) for name in given_back)
            yield Usage(max(used, 0), limit, str(place))


def _field(path: Path, name: str) -> int:
    """Return the number in the line that begins with a name; 0 if there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0] == name:
                return int(words[1])
    return 0
