"""Names in a worker, which resolves none itself: it asks, and remembers."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from spooky.config.schema import Configuration
from spooky.edge.messages import Resolve, Resolved
from spooky.upstream.resolver import Name, is_address, names_of

FRESH_SECONDS: Final = 5.0
"""How long an answer is used without asking again; a new connection asks after that.

A question without an answer for so long is lost, and asked again.
"""


class AskedNames:
    """Gives the addresses of backends, as the supervisor tells them.

    Arguments:
        ask: Sends a question.
        now: The clock; seconds.
    """

    def __init__(self, ask: Callable[[Resolve], None], now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now
        self._known: dict[Name, tuple[float, list[str]]] = {}
        self._waiting: dict[Name, asyncio.Future[Resolved]] = {}
        self._asked: dict[Name, float] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host.

        What is known is returned at once, and asked for again meanwhile if it is old: a connection
        to a backend that lives does not wait for a resolver that does not. A name that resolved
        once and does not any more keeps the addresses it had.

        Raises:
            socket.gaierror: It never resolved.
        """
        if is_address(host):
            return [host]
        key = (host, port)
        when, addresses = self._known.get(key, (0.0, []))
        if addresses and self._now() - when < FRESH_SECONDS:
            return addresses
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        if key not in self._asked or self._now() - self._asked[key] >= FRESH_SECONDS:
            self._asked[key] = self._now()
            self._ask(Resolve(host, port))
        if addresses:
            return addresses
        answer = await asyncio.shield(waiting)
        if answer.error:
            raise socket.gaierror(socket.EAI_NONAME, answer.error)
        return list(answer.addresses)

    def follow(self, configuration: Configuration) -> None:
        """Forget the names that a configuration does not have: they lead to no backend any more.

        Requests that drain may ask for another yet; it is forgotten with the next change.
        """
        if not self._known:
            return
        names = frozenset(names_of(configuration))
        self._known = {name: known for name, known in self._known.items() if name in names}

    def answered(self, answer: Resolved) -> None:
        """Take an answer."""
        key = (answer.host, answer.port)
        if answer.addresses:
            self._known[key] = (self._now(), list(answer.addresses))
        self._asked.pop(key, None)
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
