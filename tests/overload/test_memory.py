"""How memory is read: the nearest limit counts, whoever's it is."""

from pathlib import Path

import pytest

from spooky.overload.memory import MemoryReader

MIB = 1 << 20
GIB = 1 << 30

STAT_V1 = f"""cache 1
inactive_file 7
total_inactive_file {60 * MIB}
total_active_file {40 * MIB}"""


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a machine of 8 GiB without cgroups, and two processes of 1 GiB."""
    write(tmp_path / "proc/meminfo", f"MemFree: 1 kB\nMemTotal:  {8 * GIB // 1024} kB")
    for pid in (10, 11):
        status = f"VmRSS:\t {2 * GIB // 1024} kB\nRssAnon:\t {GIB // 1024} kB\nRssShmem:\t 7 kB"
        write(tmp_path / f"proc/{pid}/status", status)
    return tmp_path


def test_without_limits_the_processes_are_held_against_the_machine(root: Path) -> None:
    usage = MemoryReader(root).read([10, 11, 12], None)
    assert usage == (2 * GIB, 8 * GIB, "the machine")
    assert usage.pressure == 0.25


def test_a_configured_limit_is_for_the_processes_alone(root: Path) -> None:
    assert MemoryReader(root).read([10, 11], 4 * GIB) == (2 * GIB, 4 * GIB, "memory_max_bytes")


def cgroup(root: Path, path: str, limit: object, current: int, cache: int) -> None:
    place = root / "sys/fs/cgroup" / path
    write(place / "memory.max", limit)
    write(place / "memory.current", current)
    parts = (cache // 2, cache // 4, cache // 4)
    lines = zip(("inactive_file", "active_file", "slab_reclaimable"), parts, strict=True)
    write(place / "memory.stat", "anon 5\n" + "\n".join(f"{name} {size}" for name, size in lines))


def test_the_limit_of_a_cgroup_counts_and_what_the_kernel_can_give_back_does_not(
    root: Path,
) -> None:
    write(root / "proc/self/cgroup", "0::/system.slice/spooky.service")
    cgroup(root, "system.slice/spooky.service", GIB, 900 * MIB, 500 * MIB)
    usage = MemoryReader(root).read([], None)
    assert (usage.used, usage.limit) == (400 * MIB, GIB)
    assert usage.source.endswith("spooky.service")


def test_the_nearest_limit_of_a_cgroup_and_those_above_counts(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/a/b")
    cgroup(root, "a/b", "max", 100 * MIB, 0)
    cgroup(root, "a", GIB, 900 * MIB, 0)
    cgroup(root, "", 4 * GIB, GIB, 0)
    assert MemoryReader(root).read([], None)[:2] == (900 * MIB, GIB)


def test_in_a_container_the_cgroup_is_what_is_mounted(root: Path) -> None:
    """The path that the process knows is outside of what it sees."""
    write(root / "proc/self/cgroup", "0::/../../kubepods/pod1/container1")
    cgroup(root, "", GIB, 800 * MIB, 0)
    assert MemoryReader(root).read([], None)[:2] == (800 * MIB, GIB)


def test_cgroups_of_version_1_are_read_too(root: Path) -> None:
    write(root / "proc/self/cgroup", "4:cpu,memory:/docker/x\n3:cpuset:/docker/x\n0::/")
    (root / "sys/fs/cgroup/unified").mkdir(parents=True)
    place = root / "sys/fs/cgroup/memory/docker/x"
    write(place / "memory.limit_in_bytes", GIB)
    write(place / "memory.usage_in_bytes", 900 * MIB)
    write(place / "memory.stat", STAT_V1)
    write(place.parent / "memory.limit_in_bytes", 9223372036854771712)
    write(place.parent / "memory.usage_in_bytes", 5 * GIB)
    assert MemoryReader(root).read([], None)[:2] == (800 * MIB, GIB)


def test_where_nothing_can_be_read_there_is_no_pressure(tmp_path: Path) -> None:
    assert MemoryReader(tmp_path).read([1], None).pressure == 0.0


def test_this_machine_can_be_read() -> None:
    usage = MemoryReader().read([], None)
    assert usage.limit > 0
    assert 0.0 <= usage.pressure < 1.0
