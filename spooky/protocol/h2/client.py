"""The client role: see :mod:`spooky._core.pure.h2_client`."""

from spooky._core.h2_client import ClientSession
from spooky.protocol.h2.engine import EngineName, engine_class
from spooky.protocol.h2.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.session import ClientByteSession, Wake


def client_session(
    wake: Wake, *, limits: Limits = DEFAULT_LIMITS, engine: EngineName | None = None
) -> ClientSession:
    """Return a session for an HTTP/2 connection to a backend.

    Arguments:
        wake: Called when output became pending outside ``receive``.
        limits: What the backend may send.
        engine: ``ngh2`` or ``h2``; the build's own if not given.
    """
    return ClientSession(wake, limits, engine_class(engine)(True, limits))


def _check_interface(session: ClientSession) -> ClientByteSession:
    """Have the type checker compare the session with its contract."""
    return session
