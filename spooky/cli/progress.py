"""A line on the terminal that says where a long command is."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final, TextIO

COUNT_SECONDS: Final = 0.5
"""How often a line that counts is written anew, and after how long at first: what is quick needs
none."""


class StatusLine:
    """Shows one text at a time, in place of the last; elsewhere than on a terminal it is silent.

    Arguments:
        stream: The terminal, or not; ``None`` for nobody.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None

    def show(self, text: str) -> None:
        """Replace the line."""
        self._write(text)

    def clear(self) -> None:
        """Remove the line."""
        self._write("")

    @contextlib.contextmanager
    def counting(self, text: str) -> Iterator[None]:
        """Show a text and the seconds that passed, until the block ends."""
        if self._stream is None:
            yield
            return
        began, over = time.monotonic(), threading.Event()

        def count() -> None:
            while not over.wait(COUNT_SECONDS):
                self.show(f"{text}, {time.monotonic() - began:.0f} s")

        counter = threading.Thread(target=count, daemon=True)
        counter.start()
        try:
            yield
        finally:
            over.set()
            counter.join()
            self.clear()

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
