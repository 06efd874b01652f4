"""Looking names of backends up again, so that connections follow where they lead."""

import asyncio
import functools
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from spooky.config.schema import Configuration
from spooky.observe.metrics import Fact, Kind
from spooky.runtime import Runtime
from spooky.upstream.dial import Resolve
from spooky.upstream.resolver import THREADS_MAX, Name, names_of

logger = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Each round is up to this share of the interval earlier or later, so that machines do not meet."""

AT_ONCE_MAX: Final = THREADS_MAX // 2
"""Names asked for at the same time; the other threads are for who waits for a connection."""

ANSWER_SECONDS: Final = 10.0
"""A name that takes longer fails; if its answer comes yet, it is taken."""

OnChanged = Callable[[str, int, tuple[str, ...]], None]
"""Takes a host, a port, and the addresses that it has now."""


class NameRefresh:
    """Asks for the names of all backends, again and again.

    Arguments:
        runtime: Whose loop to use.
        resolve: Asks the system.
        on_changed: Told of each name when it resolves to others than before; not when it
            resolves first, as who connects asks for itself.
    """

    def __init__(self, runtime: Runtime, resolve: Resolve, on_changed: OnChanged) -> None:
        self._runtime = runtime
        self._resolve = resolve
        self._on_changed = on_changed
        self._random = random.Random()
        # Those of the configuration, also where no name is asked for again.
        self._hosts: set[str] = set()
        self._known: dict[Name, frozenset[str]] = {}
        # Why names do not resolve.
        self._failing: dict[Name, str] = {}
        self._outcomes: Counter[str] = Counter()
        self._resolved_at: dict[Name, float] = {}
        self._interval = 0.0
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Semaphore(AT_ONCE_MAX)
        self._running: set[Name] = set()

    @property
    def failures(self) -> dict[str, str]:
        """Each host in use, with why it does not resolve; empty if it does, or is not followed."""
        failures = dict.fromkeys(self._hosts, "")
        failures.update({host: why for (host, _), why in self._failing.items()})
        return failures

    def follow(self, configuration: Configuration) -> None:
        """Ask for the names of a configuration, those that are new at once."""
        performance = configuration.performance
        interval = performance.backend_dns_refresh_interval_ms / 1000
        if not performance.backend_dns_refresh_enabled:
            interval = 0.0
        every = frozenset(names_of(configuration))
        self._hosts = {host for host, _ in every}
        names = every if interval else frozenset()
        if names == self._known.keys() and interval == self._interval:
            return
        self._known = {name: self._known.get(name, frozenset()) for name in names}
        self._failing = {name: why for name, why in self._failing.items() if name in names}
        self._resolved_at = {
            name: when for name, when in self._resolved_at.items() if name in names
        }
        self._interval = interval
        self.close()
        if names:
            self._task = self._runtime.start_task(self._run())

    async def refresh(self) -> None:
        """Ask for every name once, but for those whose last lookup still runs."""
        await asyncio.gather(*map(self._ask, self._known.keys() - self._running))

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        for (host, port), addresses in self._known.items():
            yield Fact(
                "backend_dns_resolved_addresses",
                "Addresses that the name of a backend has.",
                len(addresses),
                (("host", host), ("port", str(port))),
            )
        for (host, port), when in self._resolved_at.items():
            yield Fact(
                "backend_dns_last_refresh_success_seconds",
                "When the name of a backend resolved last, since 1970.",
                when,
                (("host", host), ("port", str(port))),
            )
        for outcome in ("changed", "unchanged", "empty", "failed"):
            yield Fact(
                "backend_dns_refreshes_total",
                "Times that names of backends were looked up again, by what came of it.",
                self._outcomes[outcome],
                (("outcome", outcome),),
                Kind.COUNTER,
            )

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(self._interval * self._random.uniform(1 - JITTER, 1 + JITTER))

    async def _ask(self, name: Name) -> None:
        await self._room.acquire()
        self._running.add(name)
        lookup = asyncio.ensure_future(self._resolve(*name))
        lookup.add_done_callback(functools.partial(self._returned, name))
        # It is not cancelled, as the system's thread is not; its room is free when that returns.
        await asyncio.wait({lookup}, timeout=ANSWER_SECONDS)
        if not lookup.done():
            self._failed(name, "failed", f"no answer within {ANSWER_SECONDS:.0f} s")

    def _returned(self, name: Name, lookup: asyncio.Future[list[str]]) -> None:
        self._running.discard(name)
        self._room.release()
        if lookup.cancelled():
            return
        try:
            addresses = lookup.result()
        except (OSError, UnicodeError) as error:
            text = error.strerror if isinstance(error, OSError) else None
            self._failed(name, "failed", text or str(error))
        else:
            if addresses:
                self._resolved(name, addresses)
            else:
                self._failed(name, "empty", "it has no address")

    def _failed(self, name: Name, outcome: str, why: str) -> None:
        """Keep the addresses that the name had, and say so the first time."""
        if name not in self._known:
            return  # It was removed while it was asked for.
        self._outcomes[outcome] += 1
        is_new = name not in self._failing
        self._failing[name] = why
        if is_new:
            kept = ", ".join(sorted(self._known[name])) or "none"
            logger.warning("%s does not resolve: %s; addresses kept: %s", name[0], why, kept)

    def _resolved(self, name: Name, addresses: list[str]) -> None:
        before, now = self._known.get(name), frozenset(addresses)
        if before is None:
            return  # It was removed while it was asked for.
        if name in self._failing:
            del self._failing[name]
            logger.info("%s resolves again", name[0])
        self._known[name] = now
        self._resolved_at[name] = time.time()
        if now == before:
            self._outcomes["unchanged"] += 1
            return
        self._outcomes["changed"] += 1
        if before:
            logger.info("%s has other addresses: %s", name[0], ", ".join(sorted(now)))
            self._on_changed(*name, tuple(addresses))
