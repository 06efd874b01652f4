"""In which order a connection's responses go: what signals come to (RFC 9218).

Urgency goes first; of equally urgent responses those of use only when complete go one after the
other, then the incremental ones share. Who asks for nothing gets a fair share: until a client's
first signal all responses of its connection are incremental, as if nobody had heard of RFC 9218.
From then on a response without a signal has the defaults of section 4, since such clients leave
out what is the default.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from spooky._core.priority import DEFAULT_PRIORITY, DEFAULT_URGENCY, Priority, parse_priority

SHARED: Final = Priority(DEFAULT_URGENCY, incremental=True)
"""What responses have on a connection without any signal of its client."""


class Signals:
    """What was said about one response.

    Attributes:
        client: What the client said last; ``None`` if nothing.
        server: The ``priority`` field of the response; ``None`` if it has none.
    """

    __slots__ = ("client", "server")

    def __init__(self, client: Priority | None = None, server: bytes | None = None) -> None:
        self.client = client
        self.server = server


class Prioritized(Protocol):
    """A stream whose response has a place in the order.

    Attributes:
        signals: What was said about it; ``None`` if nothing.
    """

    signals: Signals | None

    def prioritize(self, priority: Priority) -> None:
        """Send with this priority from now on."""


class Priorities:
    """The order of a connection's responses.

    Arguments:
        streams: The streams that are open, by ID; theirs who makes this.

    Attributes:
        signalled: Whether the client gave any signal.
        early: Signals for streams that are not open yet, by ID; who opens one takes them.
    """

    __slots__ = ("_streams", "early", "signalled")

    def __init__(self, streams: Mapping[int, Prioritized]) -> None:
        self._streams = streams
        self.early: dict[int, Signals] = {}
        self.signalled = False

    def begin(self, stream: Prioritized, value: bytes | None) -> None:
        """Take the ``priority`` field of a request; an earlier PRIORITY_UPDATE outweighs it.

        Arguments:
            stream: The stream of the request.
            value: The field's value; ``None`` if there is none.
        """
        if value is not None and stream.signals is None:
            client = parse_priority(value, DEFAULT_PRIORITY)
            if client is not None:
                stream.signals = Signals(client)
                self._note_signal()
        if self.signalled:
            self._apply(stream)

    def update(self, stream_id: int, value: bytes) -> None:
        """Take a PRIORITY_UPDATE frame (RFC 9218 section 7); a malformed value changes nothing.

        The caller bounds the IDs for which this is called ahead of the stream.
        """
        client = parse_priority(value, DEFAULT_PRIORITY)
        if client is None:
            return
        self._note_signal()
        stream = self._streams.get(stream_id)
        if stream is None:
            self.early[stream_id] = Signals(client)
            return
        stream.signals = Signals(client, stream.signals.server if stream.signals else None)
        self._apply(stream)

    def override(self, stream: Prioritized, value: bytes) -> None:
        """Take the ``priority`` field of a response: what it names counts (RFC 9218 section 8)."""
        stream.signals = Signals(stream.signals.client if stream.signals else None, value)
        self._apply(stream)

    def _note_signal(self) -> None:
        """Learn that the client knows of priorities."""
        if self.signalled:
            return
        self.signalled = True
        for stream in self._streams.values():
            self._apply(stream)

    def _apply(self, stream: Prioritized) -> None:
        """Put a stream where the signals say."""
        priority = DEFAULT_PRIORITY if self.signalled else SHARED
        signals = stream.signals
        if signals is not None:
            priority = signals.client or priority
            if signals.server is not None:
                priority = parse_priority(signals.server, priority) or priority
        stream.prioritize(priority)
