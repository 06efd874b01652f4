"""The seam between our sessions and the engine that frames, compresses and keeps stream states.

It has the shape of ``ngh2.Connection``; h2 is given the same one by :mod:`.engine_h2`. Sessions
give an engine whole frames, and of bodies only what the peer's windows allow it to send at once:
queues and turns are the session's (:mod:`.sender`). An engine never delivers on its own: what
happened is in ``events()`` after each ``receive_data`` and ``data_to_send``.

The event classes here are h2's; ngh2's have the same names and attributes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from spooky._core import COMPILED
from spooky.protocol.h2.limits import Limits
from spooky.protocol.stream import Field

EngineName: TypeAlias = Literal["ngh2", "h2"]

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FRAME_SIZE_ERROR = 0x6
ENHANCE_YOUR_CALM = 0xB

SETTING_MAX_CONCURRENT_STREAMS = 0x3
SETTING_NO_RFC7540_PRIORITIES = 0x9

DEFAULT_WINDOW_BYTES = 65_535
"""What both windows are before anybody says otherwise (RFC 9113 section 6.9.2)."""


@dataclass(slots=True)
class HeadReceived:
    """A request head, a response head, a 1xx response head or trailers."""

    stream_id: int
    headers: Iterable[Field]
    end_stream: bool = False


class RequestReceived(HeadReceived):
    """A request head."""


class ResponseReceived(HeadReceived):
    """A final response head."""


class InformationalResponseReceived(HeadReceived):
    """A 1xx response head."""


class TrailersReceived(HeadReceived):
    """Trailers; they end the peer's direction."""


@dataclass(slots=True)
class DataReceived:
    """A piece of a body, to be acknowledged once consumed."""

    stream_id: int
    data: bytes
    end_stream: bool = False


@dataclass(slots=True)
class StreamReset:
    """The peer reset a stream; ``StreamClosed`` follows."""

    stream_id: int
    error_code: int


@dataclass(slots=True)
class StreamClosed:
    """A stream is over. With an ``error_code``, somebody reset it: the engine, if not we."""

    stream_id: int
    error_code: int = NO_ERROR


@dataclass(slots=True)
class SettingsReceived:
    """The peer's settings, those named in the frame."""

    settings: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class PriorityUpdateReceived:
    """A client says how urgent a response is (RFC 9218 section 7.1)."""

    prioritized_stream_id: int
    field_value: bytes


@dataclass(slots=True)
class PingAcknowledged:
    """A PING came back."""

    opaque_data: bytes


@dataclass(slots=True)
class GoAwayReceived:
    """The peer takes no new streams; those above ``last_stream_id`` were closed as refused."""

    last_stream_id: int
    error_code: int


@dataclass(slots=True)
class ConnectionClosed:
    """Nothing more will be received or sent, beyond the output returned so far.

    The code is that of the GOAWAY last sent or received.
    """

    error_code: int = NO_ERROR


class Engine(Protocol):
    """One connection.

    Errors of ``ERRORS`` raised by ``receive_data`` and ``data_to_send`` end the connection; from
    any other method they say that the stream or the connection is gone, which an event tells too.

    Attributes:
        EVENTS: The classes of its events, by name.
        ERRORS: What it raises.
        OVERLOAD_ERRORS: Those of them that say that the peer asked for too much.
        want_write: Whether ``data_to_send`` would return something.
        can_send_request: Whether the peer takes new streams and identifiers are left.
        remote_window_size: What the connection's window allows to be sent, bytes.
    """

    EVENTS: ClassVar[Mapping[str, type]]
    ERRORS: ClassVar[tuple[type[Exception], ...]]
    OVERLOAD_ERRORS: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, client: bool, limits: Limits) -> None: ...

    @property
    def want_write(self) -> bool: ...

    @property
    def can_send_request(self) -> bool: ...

    @property
    def remote_window_size(self) -> int: ...

    def stream_remote_window_size(self, stream_id: int) -> int:
        """Return what the stream's window alone allows to be sent, bytes."""

    def receive_data(self, data: bytes) -> None:
        """Take whole frames."""

    def events(self) -> list[Any]:
        """Return what happened since the last call."""

    def data_to_send(self) -> bytes:
        """Return all output there is."""

    def send_request(self, headers: Iterable[Field], *, end_stream: bool = False) -> int:
        """Open a stream and return its identifier."""

    def send_response(
        self, stream_id: int, headers: Iterable[Field], *, end_stream: bool = False
    ) -> None:
        """Send a final response head."""

    def send_informational_response(self, stream_id: int, headers: Iterable[Field]) -> None:
        """Send a 1xx response head."""

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """Send a piece of a body that the windows allow."""

    def send_trailers(self, stream_id: int, headers: Iterable[Field]) -> None:
        """Send trailers after what was sent of the body."""

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Reset a stream; body bytes not yet in the output are dropped."""

    def acknowledge_received_data(self, amount: int, stream_id: int) -> None:
        """Credit consumed bytes to the stream, if it is open, and to the connection."""

    def ping(self, opaque_data: bytes) -> None:
        """Send a PING of eight bytes."""

    def send_shutdown_notice(self) -> None:
        """Send the GOAWAY that only announces another one (RFC 9113 section 6.8)."""

    def send_goaway(self) -> None:
        """Send GOAWAY without an error: streams seen so far go on, no others are taken."""

    def terminate_connection(self, error_code: int) -> None:
        """Send GOAWAY and end the connection."""


def engine_class(name: EngineName | None = None) -> type[Engine]:
    """Return an engine, or the one that belongs to this build."""
    if name is None:
        name = "ngh2" if COMPILED else "h2"
    if name == "ngh2":
        from spooky.protocol.h2 import engine_ngh2

        return engine_ngh2.Engine
    from spooky.protocol.h2 import engine_h2

    return engine_h2.Engine
