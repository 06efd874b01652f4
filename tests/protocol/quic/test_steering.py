"""Which worker slot a datagram is for (design, section 5)."""

from collections import Counter

import pytest

from spooky.protocol.bpf import Instruction
from spooky.protocol.proxy_header import V2_SIGNATURE
from spooky.protocol.quic.packet import ConnectionIds
from spooky.protocol.quic.steering import (
    Steering,
    has_long_header,
    slot_of,
    steering_program,
    steering_table,
)

ACTIVE = [range(1), range(2), range(3), range(4), (1, 3), (0, 5, 200), range(64), range(256)]


LOADS = {0x30: (1, False), 0x28: (2, False), 0x20: (4, False), 0x50: (1, True)}


def behind_proxy(datagram: bytes, extra: bytes = b"") -> bytes:
    """Return a datagram with a PROXY header before it."""
    return V2_SIGNATURE + b"\x21\x12" + (12 + len(extra)).to_bytes(2) + bytes(12) + extra + datagram


def long_header(connection_id: bytes) -> bytes:
    return b"\xc0\0\0\0\1" + bytes((len(connection_id),)) + connection_id + b"\0rest"


def run(program: list[Instruction], datagram: bytes) -> int:
    """Run a program as the kernel does."""
    at = loaded = index = 0
    while True:
        code, jump_true, jump_false, value = program[at]
        at += 1
        if code in LOADS:
            size, is_indexed = LOADS[code]
            start = value + index * is_indexed
            if start + size > len(datagram):
                return 0
            loaded = int.from_bytes(datagram[start : start + size])
        elif code == 0x01:
            index = value
        elif code == 0x07:
            index = loaded
        elif code == 0x04:
            loaded += value
        elif code == 0x15:
            at += jump_true if loaded == value else jump_false
        elif code == 0x05:
            at += value
        elif code == 0x45:
            at += jump_true if loaded & value else jump_false
        else:
            assert code == 0x06
            return value


@pytest.mark.parametrize("active", ACTIVE)
def test_an_active_slot_stands_for_itself_and_the_rest_is_spread_evenly(active: range) -> None:
    table = steering_table(active)
    assert all(table[slot] == slot for slot in active)
    shares = Counter(table)
    assert set(shares) == set(active)
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("active", ACTIVE)
def test_the_program_says_what_the_table_says(active: range) -> None:
    table = steering_table(active)
    program = steering_program(table)
    assert len(program) <= 4096
    assert all(max(one.jump_true, one.jump_false) <= 255 for one in program)
    for byte in range(256):
        connection_id = bytes((byte,)) + b"1234567"
        for datagram in (long_header(connection_id), b"\x40" + connection_id + b"rest"):
            assert run(program, datagram) == slot_of(datagram, table)
            for wrapped in (behind_proxy(datagram), behind_proxy(datagram, bytes(300))):
                assert run(program, wrapped) == slot_of(wrapped, table) == slot_of(datagram, table)
                assert has_long_header(wrapped) == has_long_header(datagram)
    # What only looks like a header is not stepped over.
    for start in range(1, len(V2_SIGNATURE)):
        datagram = V2_SIGNATURE[:start] + bytes(40)
        assert run(program, datagram) == slot_of(datagram, table)
    assert slot_of(behind_proxy(b""), table) is None
    assert slot_of(b"", table) is slot_of(b"\x40", table) is slot_of(b"\xc0\0\0", table) is None


@pytest.mark.parametrize("active", ACTIVE)
def test_what_a_living_worker_issued_stays_with_it_whatever_is_active(active: range) -> None:
    leaving = (0, 7, 255)
    steering = Steering(tuple(active), leaving)
    for slot in (*leaving, *active):
        connection_id = ConnectionIds(slot).make()
        for datagram in (long_header(connection_id), b"\x40" + connection_id + b"rest"):
            assert slot_of(datagram, steering.table) == slot
    # What one that is gone issued goes to a worker that can say so.
    for slot in leaving:
        assert slot_of(b"\x40" + ConnectionIds(slot).make(), steering_table(active)) in active


def test_a_table_needs_slots_that_fit_a_byte() -> None:
    for active in ((), (256,), (-1,)):
        with pytest.raises(ValueError, match="slots"):
            steering_table(active)
