"""Resolving the names of backends, for workers that cannot."""

import asyncio
from typing import Final

from spooky.edge.messages import Resolved
from spooky.upstream.dial import Resolve

ANSWER_SECONDS: Final = 1.0
"""How long an answer serves other workers that ask for the same name."""

ASKED_MAX: Final = 1024
"""Answers kept; only the hosts of backends are asked for."""


class Names:
    """Resolves each name once for all who ask at the same time.

    Arguments:
        resolve: Asks the system.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolve = resolve
        self._answers: dict[tuple[str, int], tuple[float, asyncio.Task[Resolved]]] = {}

    async def ask(self, host: str, port: int) -> Resolved:
        """Return the addresses of a host, or why there are none."""
        now = self._loop.time()
        asked = self._answers.get((host, port))
        if asked is None or (asked[1].done() and now - asked[0] > ANSWER_SECONDS):
            if len(self._answers) >= ASKED_MAX:
                self._answers.clear()
            asked = (now, self._loop.create_task(self._answer(host, port)))
            self._answers[host, port] = asked
        return await asyncio.shield(asked[1])

    async def _answer(self, host: str, port: int) -> Resolved:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            return Resolved(host, port, (), text or "no answer")
        return Resolved(host, port, tuple(addresses))
