"""TLS sessions that backends let us resume: a handshake without certificates."""

import math
import ssl
from collections import deque
from typing import Any, Final, Generic, TypeVar

SESSIONS_MAX: Final = 4
"""Sessions kept for each pool, the youngest: a backend gives one or two with each connection, and
each is used once (RFC 8446 appendix C.4)."""

VERIFIED_FOR_SECONDS: Final = 3600.0
"""So long after a backend's certificate was verified its sessions are resumed. Then it is verified
again: it may have expired or been replaced."""

SUSPENDED_SECONDS: Final = 3600.0
"""So long nothing is resumed after a handshake failed that tried: some servers with client
certificates refuse every session that they gave."""

T = TypeVar("T")


class Sessions(Generic[T]):
    """The sessions of one pool, so of one origin with one TLS identity; they end with the pool."""

    def __init__(self) -> None:
        self._kept: deque[tuple[T, float]] = deque(maxlen=SESSIONS_MAX)
        self._suspended_until = -math.inf

    def offers(self, now: float) -> bool:
        """Return whether there is one to take."""
        return now >= self._suspended_until and any(
            now - verified_at <= VERIFIED_FOR_SECONDS for _, verified_at in self._kept
        )

    def put(self, session: T, verified_at: float) -> None:
        """Keep a session; ``verified_at`` says when its backend's certificate was verified."""
        self._kept.append((session, verified_at))

    def take(self, now: float) -> tuple[T, float] | None:
        """Return the youngest session, to be used once, and when its certificate was verified."""
        if now < self._suspended_until:
            return None
        while self._kept:
            session, verified_at = self._kept.pop()
            if now - verified_at <= VERIFIED_FOR_SECONDS:
                return session, verified_at
        return None

    def suspend(self, now: float) -> None:
        """Resume nothing for some time: a session may be why a handshake failed."""
        self._kept.clear()
        self._suspended_until = now + SUSPENDED_SECONDS


class Resumption(Generic[T]):
    """What one handshake takes from the sessions of its pool, and gives to them.

    Arguments:
        sessions: Those of the pool.
        now: Seconds.

    Attributes:
        session: The one to resume; ``None`` without one.
    """

    def __init__(self, sessions: Sessions[T], now: float) -> None:
        self._sessions = sessions
        self.session: T | None = None
        self._verified_at = now
        taken = sessions.take(now)
        if taken is not None:
            self.session, self._verified_at = taken

    def complete(self, resumed: bool, now: float) -> None:
        """Learn whether the handshake resumed, or verified the backend's certificate."""
        if not resumed:
            self._verified_at = now

    def keep(self, session: T) -> None:
        """Keep a session that the connection was given."""
        self._sessions.put(session, self._verified_at)


class ResumingContext:
    """A TLS context whose next connection resumes a session, as far as event loops use it.

    They have no argument for that.

    Arguments:
        context: What made the session.
        session: What to resume.
    """

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession) -> None:
        self._context = context
        self._session = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
    ) -> ssl.SSLObject:
        """Return the TLS object of a connection."""
        return self._context.wrap_bio(
            incoming, outgoing, server_side, server_hostname, session=self._session
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
