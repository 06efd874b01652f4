"""Threads that give way do, and their process does not."""

import os

from spooky.runtime.gentle_threads import NICE, gentle_threads


def test_the_threads_alone_are_nicer() -> None:
    before = os.nice(0)
    with gentle_threads() as threads:
        nicer = min(before + NICE, 19)
        assert [threads.submit(os.nice, 0).result() for _ in range(3)] == [nicer] * 3
    assert os.nice(0) == before
