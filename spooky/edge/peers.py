"""How long a QUIC listener's socket remembers who sent to it."""

from collections.abc import Callable
from typing import Final

from spooky._core.timers import Timer
from spooky.runtime import Runtime

FORGET_MARGIN_SECONDS: Final = 10.0
"""How much longer than its idle timeout a connection may last: three probe timeouts, on a bad path
(RFC 9000 section 10.1)."""


class Forgetting:
    """Has peers forgotten once none of them, if it is silent until then, has a connection.

    A socket else remembers tens of thousands, each at half a kilobyte, and most never come again.

    Arguments:
        runtime: The worker's.
        forget: Forgets who was not heard of or sent to since its last call but one.
        idle_timeout: Returns that of connections that begin now; seconds.
    """

    def __init__(
        self, runtime: Runtime, forget: Callable[[], None], idle_timeout: Callable[[], float]
    ) -> None:
        self._runtime = runtime
        self._forget = forget
        self._idle_timeout = idle_timeout
        self._longest = 0.0
        self._timer = self._schedule()

    def close(self) -> None:
        """Forget no more."""
        self._timer.cancel()

    def _schedule(self) -> Timer:
        # Connections from before a change keep their timeout.
        self._longest = max(self._longest, self._idle_timeout())
        after = self._longest + FORGET_MARGIN_SECONDS
        return self._runtime.schedule(self._runtime.now() + after, self._on_due)

    def _on_due(self) -> None:
        self._forget()
        self._timer = self._schedule()
