"""One connection of those that a load consists of."""

from spooky.bench.connecting import Connecting
from spooky.bench.wire import Wire
from spooky.protocol.quic.session import Close, Handshake, QuicSession

class Lane:
    """A connection that is being made: the handler of its session.

    Arguments:
        connecting: Is told when it is done, or came to nothing.
        session: A client's, that begins.
        now: Seconds.

    Attributes:
        begun: When it began.
        now: The time, for upcalls.
        handshake: What it came to; ``None`` until then.
        established_at: When that was.
        close: How it ended; ``None`` while it lives.
    """

    session: QuicSession
    begun: float
    now: float
    handshake: Handshake | None
    established_at: float
    close: Close | None

    def __init__(self, connecting: Connecting, session: QuicSession, now: float) -> None: ...
    def after(self, wire: Wire) -> None:
        """See whether the connection is done, or came to nothing."""
