"""What a supervisor and its workers say to each other, over one channel for each worker.

A change of the configuration goes like this. The supervisor numbers the listeners
(:mod:`spooky.edge.listener_numbers`), binds the sockets of new ones, and sends every worker a
:class:`Prepare` with copies of its own. Each worker makes all that the generation needs, without
effect, and answers :class:`Prepared`, or :class:`PrepareFailed` with nothing left behind. If all
have answered the first, the supervisor calls ``listen()`` on each new TCP socket, the last thing
that can fail, and stores the number in the shared segment (``Segment.commit``): that is the switch,
in all workers at once, and needs no message. If anything failed, it sends :class:`Discard`.

What a process cannot change is changed by workers that take over: the supervisor starts them with
the generation to come, on slots of their own, and they wait. They belong to those who have to be
ready before the commit. Right after it they are told to :class:`Begin`, and the others to
:class:`Drain`.

A worker keeps at most one prepared generation: another :class:`Prepare` discards the one before.
One that is started later gets the number in the segment with its :class:`Start`. One that finds a
number there which it has not prepared says :class:`Failed` and exits, to be replaced.
"""

import signal
from typing import Final, TypeAlias, TypeVar

import msgspec

from spooky.config.schema import Configuration
from spooky.edge.reduced import Base
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering

VERSION: Final = 1
"""The first byte of every message; another version is not spoken."""

STACK_SIGNAL: Final = signal.SIGUSR2
"""Asks a worker for the stacks of its threads, though it may read no message any more."""

TEXT_MAX: Final = 4096
"""Longest text a worker may say about a failure; characters."""

HOST_MAX: Final = 255
"""Longest host name (RFC 1035 section 3.1)."""


class MessageError(Exception):
    """A message is not one of ours; says why."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Any message; those that come with descriptors name each, in order."""


# --- from the supervisor ----------------------------------------------------------------------
class Start(Message, frozen=True):
    """Serve.

    Attributes:
        slot: The worker's slot.
        generation: Number of the generation in force; the segment has it too.
        configuration: What to serve.
        files: The files that it names, by path.
        authorities: The authorities the system trusts; PEM.
        keys: The secrets shared by all workers.
        steering: Which slots there are.
        listeners: The number of each active listener, in the order of the configuration.
        waits: Whether clients are served only from :class:`Begin` on.
        descriptors: ``segment``, ``log`` and ``access_log`` if they are files, ``tcp:N`` and
            ``udp:N`` for each listener of number N, ``inbox`` for what others hand over, and
            ``way:N`` to the inbox of each other slot N.
    """

    slot: int
    generation: int
    configuration: Configuration
    files: dict[str, bytes]
    authorities: bytes
    keys: Keys
    steering: Steering
    listeners: tuple[int, ...]
    waits: bool
    descriptors: tuple[str, ...]


class Prepare(Message, frozen=True):
    """Make what a change needs, without effect until its number is in the segment.

    Attributes:
        generation: Number of the generation to prepare.
        configuration: What to serve then.
        files: The files that it names, by path.
        authorities: The authorities the system trusts; PEM.
        listeners: The number of each active listener, in the order of the configuration.
        drain_seconds: How long the streams of removed listeners and backends will have.
        descriptors: ``tcp:N`` and ``udp:N`` for each listener of number N that is new; ``log`` and
            ``access_log`` as far as they are files, if the configuration of one is another.
        base: What the configuration takes from the one in force; ``None`` if it is whole.
    """

    generation: int
    configuration: Configuration
    files: dict[str, bytes]
    authorities: bytes
    listeners: tuple[int, ...]
    drain_seconds: float
    descriptors: tuple[str, ...]
    base: Base | None = None


class Discard(Message, frozen=True):
    """Undo what was prepared under this number; it will not come in force."""

    generation: int


class Begin(Message, frozen=True):
    """What the worker was started with is in force: serve clients."""


class Steer(Message, frozen=True):
    """There are other slots from now on; ``way:N`` to the inbox of each slot N that is new."""

    steering: Steering
    descriptors: tuple[str, ...]


class UseKeys(Message, frozen=True):
    """The shared secrets were rotated."""

    keys: Keys


class UseLogs(Message, frozen=True):
    """The logs were reopened; ``log`` and ``access_log``, as far as they are files."""

    descriptors: tuple[str, ...]


class Resolved(Message, frozen=True):
    """What a host's name resolves to, or why it does not; ``changed`` if nobody asked."""

    host: str
    port: int
    addresses: tuple[str, ...]
    error: str = ""
    changed: bool = False


class Drain(Message, frozen=True):
    """Take nothing new, finish what is in flight in so many seconds, and exit.

    Attributes:
        seconds: How many.
        replaced: Whether others serve in its place. Then nobody waits for the exit, and clients of
            HTTP/1.1 have more time for the request whose response tells them to go.
    """

    seconds: float
    replaced: bool = False


class Stop(Message, frozen=True):
    """Cut everything, and exit."""


ToWorker: TypeAlias = (
    Start | Begin | Prepare | Discard | Steer | UseKeys | UseLogs | Resolved | Drain | Stop
)


# --- from a worker ----------------------------------------------------------------------------
class Ready(Message, frozen=True):
    """The worker serves."""


class Failed(Message, frozen=True):
    """The worker cannot serve."""

    text: str


class Prepared(Message, frozen=True):
    """The worker has all that this generation needs."""

    generation: int


class PrepareFailed(Message, frozen=True):
    """The worker cannot serve this generation, and kept nothing of it.

    Attributes:
        generation: Its number.
        text: Why.
    """

    generation: int
    text: str


class Resolve(Message, frozen=True):
    """Asks for the addresses of a host."""

    host: str
    port: int


class Draining(Message, frozen=True):
    """The worker finishes what it has, by the generation that it has; others do not concern it."""


class Drained(Message, frozen=True):
    """The worker is about to exit.

    Attributes:
        cut: Requests that did not finish in time.
    """

    cut: int


ToSupervisor: TypeAlias = Ready | Failed | Prepared | PrepareFailed | Resolve | Draining | Drained

_encoder: Final = msgspec.msgpack.Encoder()
_to_worker: Final[msgspec.msgpack.Decoder[ToWorker]] = msgspec.msgpack.Decoder(ToWorker)
_to_supervisor: Final[msgspec.msgpack.Decoder[ToSupervisor]] = msgspec.msgpack.Decoder(ToSupervisor)

Any = TypeVar("Any")


def encode(message: ToWorker | ToSupervisor) -> bytes:
    """Return the bytes of a message."""
    return bytes((VERSION,)) + _encoder.encode(message)


def decode_for_worker(data: bytes) -> ToWorker:
    """Read a message of the supervisor.

    Raises:
        MessageError: It is none.
    """
    return _decode(data, _to_worker)


def decode_for_supervisor(data: bytes) -> ToSupervisor:
    """Read a message of a worker.

    Raises:
        MessageError: It is none.
    """
    return _decode(data, _to_supervisor)


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    if data[:1] != bytes((VERSION,)):
        raise MessageError(f"the other side speaks version {data[0] if data else 'none'}")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The second for text that is no UTF-8, the third for what is nested without end.
        raise MessageError(str(error)) from error
