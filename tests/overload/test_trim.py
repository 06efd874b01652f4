"""Memory that was freed is the system's again."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from spooky.overload.trim import find_trim

FREED = """
import os
from pathlib import Path
from spooky.overload.memory import MemoryReader
from spooky.overload.trim import find_trim

def used():
    return MemoryReader().read([os.getpid()], 1).used

# Below what the C library maps by itself, above what the interpreter keeps pools of.
pieces = [bytes(100_000) for _ in range(1000)]
last = bytes(100_000)
del pieces
before = used()
find_trim()()
print(before - used())
"""


@pytest.mark.skipif(find_trim() is None, reason="the C library has no malloc_trim")
def test_freed_memory_below_a_piece_in_use_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 50_000_000


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(_: Any) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert find_trim() is None
