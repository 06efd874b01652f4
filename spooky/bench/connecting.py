"""Loads that consist of connections: full handshakes, and handshakes that resume a session."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from aioquic.tls import SessionTicket

from spooky.bench.histogram import Histogram
from spooky.bench.lane import Lane
from spooky.bench.plan import LoadPlan
from spooky.bench.wire import Loop, Wire
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.parameters import ClientParameters
from spooky.protocol.quic.session import Address, Close, QuicSession

STREAM_WINDOW: Final = 16 * 1024 * 1024
"""What a response may have outstanding, so that the client is never what limits it; bytes."""

CONNECTION_WINDOW: Final = 64 * 1024 * 1024
"""The same of a connection; bytes."""

IDLE_TIMEOUT: Final = 60.0
"""Seconds, and as many more as the load takes, so that the client never ends what a scenario keeps
idle; servers may have a shorter one."""

H3_NO_ERROR: Final = 0x100

GROUPS: Final = (0x001D, 0x0017)
"""X25519, which servers prefer, and P-256, which all must know (RFC 8446 section 9.1). A share is
brought of the first, as to make a key costs as much as the rest of a hello."""

MICROSECONDS: Final = 1_000_000


class Entrance:
    """Makes sessions with the server of a plan; certificates are not verified.

    Verifying them costs the client what has nothing to do with the server.

    Attributes:
        address: The server's.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.address: Address = (plan.host, plan.port)
        self._name = plan.server_name
        self._idle_timeout = IDLE_TIMEOUT + plan.seconds
        self._begin = chosen_engine(None).client_session
        self._parameters = self.parameters()

    def parameters(
        self,
        on_ticket: Callable[[SessionTicket], None] | None = None,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
    ) -> ClientParameters:
        """Return what sessions are made with; windows do not grow."""
        return ClientParameters(
            verify=False,
            groups=GROUPS,
            idle_timeout=self._idle_timeout,
            stream_window=stream_window,
            stream_window_max=stream_window,
            connection_window=connection_window,
            connection_window_max=connection_window,
            on_ticket=on_ticket,
        )

    def session(self, now: float, parameters: ClientParameters | None = None) -> QuicSession:
        """Begin a session."""
        return self._begin(parameters or self._parameters, self.address, self._name, now)

    @staticmethod
    def slots(wires: Sequence[Wire]) -> dict[int, int]:
        """Count connections by the first byte of the server's connection ID."""
        return dict(Counter(slot for wire in wires if (slot := slot_of(wire.first)) is not None))


def slot_of(datagram: bytes) -> int | None:
    """Return the first byte of the source connection ID of a long header (RFC 8999 section 5.1)."""
    if len(datagram) < 7 or not datagram[0] & 0x80:
        return None
    length_at = 6 + datagram[5]
    if length_at + 1 >= len(datagram) or datagram[length_at] == 0:
        return None
    return datagram[length_at + 1]


def why(close: Close | None) -> str:
    """Say how a connection ended that should have gone on."""
    if close is None or close.timed_out:
        return "the connection timed out"
    return f"the connection was closed with {close.error_code:#x}"


class Connecting:
    """Makes connections in lanes: when one is done, the lane makes the next.

    A connection is done when the server has acknowledged what was sent on the control stream: only
    then is it sure to have done its part of the handshake.

    Attributes:
        resume: Whether each resumes the session of the one before.
        completed: Connections since :meth:`reset`.
        resumed: How many of them resumed a session.
        errors: Connections that failed, by what was wrong.
        latencies: From the first packet to the end of the handshake; microseconds.
        slots: Connections by the first byte of the server's connection ID.
    """

    def __init__(self, loop: Loop, entrance: Entrance, resume: bool) -> None:
        self.resume = resume
        self._loop = loop
        self._entrance = entrance
        self._ticket: SessionTicket | None = None
        self._plain = entrance.parameters(on_ticket=self._take_ticket if resume else None)
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.completed = 0
        self.resumed = 0
        self.errors: Counter[str] = Counter()
        self.latencies = Histogram()
        self.slots: Counter[int] = Counter()

    def start(self, lanes: int) -> None:
        """Begin the first connection of each lane."""
        for _ in range(lanes):
            self._begin()

    def ready(self, seconds: float) -> bool:
        """Wait until a connection is done that counts; return whether there was one."""
        until = time.monotonic() + seconds
        while not (self.resumed if self.resume else self.completed):
            if self._loop.turn(until) >= until:
                return False
        return True

    def pass_time(self, seconds: float, progress: Callable[[float], None]) -> None:
        """Go on for a while; ``progress`` hears now and then how long it has been."""
        begun = now = time.monotonic()
        report_at = begun
        while now < begun + seconds:
            now = self._loop.turn(begun + seconds)
            if now >= report_at:
                report_at = now + 0.5
                progress(now - begun)

    def done(self, lane: Lane, wire: Wire, now: float) -> None:
        """Count a connection, close it, and begin the next."""
        handshake = lane.handshake
        if lane.close is not None or handshake is None:
            self.errors[why(lane.close)] += 1
        else:
            self.completed += 1
            self.resumed += handshake.resumed
            self.latencies.record(int((lane.established_at - lane.begun) * MICROSECONDS))
            slot = slot_of(wire.first)
            if slot is not None:
                self.slots[slot] += 1
            lane.session.close(H3_NO_ERROR, "", is_application=True)
            wire.settle(now)
        wire.close()
        self._begin()

    def _begin(self) -> None:
        now = time.monotonic()
        parameters = self._plain
        if self.resume and self._ticket is not None:
            parameters = self._plain.resuming(self._ticket)
        session = self._entrance.session(now, parameters)
        lane = Lane(self, session, now)
        wire = Wire(self._loop, session, lane, self._entrance.address, lane.after)
        wire.settle(now)

    @property
    def has_ticket(self) -> bool:
        """Whether the next connection can resume a session."""
        return self._ticket is not None

    def _take_ticket(self, ticket: SessionTicket) -> None:
        self._ticket = ticket
