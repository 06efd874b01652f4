"""A line on the terminal that says where a long command is."""

from typing import TextIO


class StatusLine:
    """Shows one text at a time, in place of the last; elsewhere than on a terminal it is silent.

    Arguments:
        stream: The terminal, or not.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._visible = stream.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        self._write(text)

    def clear(self) -> None:
        """Remove the line."""
        self._write("")

    def _write(self, text: str) -> None:
        if self._visible:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
