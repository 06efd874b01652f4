"""Asking the system for the addresses of a host, beside the loop."""

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Final

from spooky.config.schema import Configuration
from spooky.upstream.origin import EMBEDDED_SCHEME, Origin

THREADS_MAX: Final = 32
"""Lookups at the same time. A name whose servers are silent holds a thread for half a minute and
more, and nothing ends it sooner; names that answer must not wait for a few of those."""

Name = tuple[str, int]
"""A host and a port."""

Ask = Callable[[str, int], list[str]]
"""Asks and waits; raises ``OSError`` or ``UnicodeError``."""


class SystemResolver:
    """Gives the addresses of hosts, IPv4 and IPv6, in the system's order.

    Who asks for a name that is looked up already waits for the same answer.

    Arguments:
        loop: Whose callers ask.
        ask: Asks the system; another one for tests.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask | None = None) -> None:
        self._loop = loop
        self._ask = ask or _ask_the_system
        self._room = asyncio.Semaphore(THREADS_MAX)
        self._lookups: dict[Name, asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host.

        Raises:
            socket.gaierror: It does not resolve.
            UnicodeError: It cannot be a name.
        """
        if is_address(host):
            return [host]
        name = (host, port)
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = self._loop.create_task(self._look_up(name))
            lookup.add_done_callback(functools.partial(self._returned, name))
        # Who gives up waiting does not end it, as nothing ends the thread.
        await asyncio.wait({lookup})
        return lookup.result()

    async def _look_up(self, name: Name) -> list[str]:
        async with self._room:
            answer: Future[list[str]] = Future()
            # From here on it is not cancelled, and the thread may always answer.
            answer.set_running_or_notify_cancel()
            # A daemon and no pool, which would have the process wait at its end for who hangs.
            thread = Thread(target=_answer, args=(answer, self._ask, name), daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise socket.gaierror(socket.EAI_AGAIN, "the system has no thread left") from error
            return await asyncio.wrap_future(answer, loop=self._loop)

    def _returned(self, name: Name, lookup: asyncio.Task[list[str]]) -> None:
        del self._lookups[name]
        if not lookup.cancelled():
            # Perhaps nobody waits for it any more.
            lookup.exception()


def is_address(host: str) -> bool:
    """Return whether a host is an address, and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _answer(answer: Future[list[str]], ask: Ask, name: Name) -> None:
    try:
        addresses = ask(*name)
    except BaseException as error:
        answer.set_exception(error)
    else:
        answer.set_result(addresses)


def _ask_the_system(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def names_of(configuration: Configuration) -> Iterator[Name]:
    """Yield host and port of each backend that is reached by a name."""
    for upstream in configuration.upstream.values():
        for backend in upstream.listed_backends:
            origin = Origin.parse(backend.address)
            if origin.scheme != EMBEDDED_SCHEME and not is_address(origin.host):
                yield origin.host, origin.port
