"""Who hears the upcalls of an HTTP/3 stream that nobody listens to."""

from typing import Final

from spooky._core.reasons import Reason

Field = tuple[bytes, bytes]


class _NoHandler:
    """Takes the upcalls of a stream that nobody listens to (any more)."""

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Ignore it."""

    def on_informational(self, fields: list[Field]) -> None:
        """Ignore it."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Ignore it."""

    def on_trailers(self, fields: list[Field]) -> None:
        """Ignore it."""

    def on_reset(self, reason: Reason) -> None:
        """Ignore it."""

    def on_stopped(self) -> None:
        """Ignore it."""

    def on_writable(self) -> None:
        """Ignore it."""


NO_HANDLER: Final = _NoHandler()
