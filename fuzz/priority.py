"""Values of the priority field, which clients send in heads and in PRIORITY_UPDATE frames."""

from collections.abc import Iterator

from spooky._core.priority import DEFAULT_PRIORITY, LOWEST_URGENCY, Priority, parse_priority
from spooky._core.pure import priority as pure


def seeds() -> Iterator[bytes]:
    """Yield values with every kind of item, and some that are cut off."""
    yield b"u=1, i"
    yield b"u=7,i=?0"
    yield b"u=2;a=1.5;b, x=tok*n"
    yield b'a="quo\\"ted", b=:aGk=:, c=(1 2;q=0.5 "x"), i'
    yield b"u=-1, u=15"
    yield b'a="'
    yield b"a=("


def run(data: bytes) -> None:
    """Parse it as the kernel and as the twin, and again from what the first time gave."""
    priority = parse_priority(data, DEFAULT_PRIORITY)
    assert priority == pure.parse_priority(data, DEFAULT_PRIORITY)
    if priority is None:
        return
    assert 0 <= priority.urgency <= LOWEST_URGENCY
    assert priority.incremental in (True, False)
    assert parse_priority(data, priority) == priority
    # Whoever names both leaves nothing of what was there.
    named = data + b",u=4,i=?0" if data.strip(b" \t") else b"u=4,i=?0"
    assert parse_priority(named, priority) == Priority(4, False)
