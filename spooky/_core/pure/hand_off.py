# cython: annotation_typing=False
"""Handing out streams of connections that are there and have room, as most requests find them.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. Dialling, waiting,
growing and closing are in ``upstream/pool.py``, whose classes extend these.
"""

from abc import abstractmethod
from typing import Any


class Connection:
    """A connection of a pool, as far as it gives streams away.

    Attributes:
        pool: Whose it is.
        session: What speaks on it; see ``ClientByteSession`` of ``protocol/session.py``.
        served: How many requests it was given.
        ready: Whether the pool has it among those with room.
    """

    def __init__(self) -> None:
        self.pool: Any = None
        self._idle_timer: Any = None
        self.session: Any = None
        self.served = 0
        self.ready = False

    def open(self, caller: Any) -> None:
        """Give a caller a stream."""
        reused = self.served > 0
        self.served += 1
        caller.on_connected(self.session.open(caller), reused)

    def on_progress(self) -> None:
        """Take more requests if there is room, and note when there are none."""
        session = self.session
        if not self.ready and session.capacity > 0:
            self.pool.on_room(self)
        if self._idle_timer is None and session.active_streams == 0:
            self._begin_idle()

    def _begin_idle(self) -> None:
        """Note that it serves nobody from now on; for those that a pool keeps."""


class Pool:
    """The connections of a pool that have room.

    Attributes:
        closed: Whether no connection is given any more without asking :meth:`wait`.
    """

    def __init__(self) -> None:
        self.closed = False
        self._ready: list[Any] = []

    def request(self, caller: Any) -> None:
        """Give ``caller`` a stream, now if a connection has room, else when one has."""
        connection = None if self.closed else self.take_ready()
        if connection is not None:
            connection.open(caller)
        else:
            self.wait(caller)

    def take_ready(self) -> Connection | None:
        """Return the connection used last that has room; few stay warm, the rest go idle."""
        while self._ready:
            connection: Connection = self._ready[-1]
            if connection.session.capacity > 0:
                return connection
            connection.ready = False
            self._ready.pop()
        return None

    @abstractmethod
    def wait(self, caller: Any) -> None:
        """Give ``caller`` a stream later, if at all."""
