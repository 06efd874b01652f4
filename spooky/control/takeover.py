"""What two programs say to each other while the newer one takes a service over from the older.

The old one sends :class:`TakeOver` with everything that it has, sockets included. The new one
starts workers that wait, and says :class:`Prepared`. Told to :class:`Begin`, it has the kernel give
new connections to its own workers, and says :class:`Serving`. The old one then has its workers
finish what they have, and says :class:`Over` when none of them takes anything new: from there on
the new one may make changes. Whatever goes wrong before :class:`Serving` leaves the old one as it
was.
"""

from typing import Final, TypeAlias, TypeVar

import msgspec

from spooky.control.files_seen import FilesSeen
from spooky.control.history import Record
from spooky.edge.listener_numbers import ListenerIdentity
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering

VERSION: Final = 5
"""Of these messages, and of what workers of both programs hand over to each other. A program that
speaks another cannot take over."""


class TakeOverError(Exception):
    """A program cannot take over; says why."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Any message; those that come with descriptors name each, in order."""


class InheritedListener(msgspec.Struct, frozen=True):
    """A listener in force, or one that was removed and drains.

    Attributes:
        identity: Which it is.
        number: What workers call it.
        sockets: How many UDP sockets it has.
        steered: Whether the kernel gives each datagram to its slot.
        unread: Slots whose workers do not serve it.
        drains_for: How long its sockets are still needed, if it was removed; seconds.
    """

    identity: ListenerIdentity
    number: int
    sockets: int
    steered: bool
    unread: tuple[int, ...]
    drains_for: float | None = None


class EndedListener(msgspec.Struct, frozen=True):
    """A removed listener whose sockets the old program closed, and its workers may not have.

    Attributes:
        number: What workers called it; no other may be given it yet.
        address: The address and the port where it was; nothing may be bound there yet.
        ends_in: How long that is so; seconds.
    """

    number: int
    address: tuple[str, int]
    ends_in: float


# --- from the old program ---------------------------------------------------------------------
# Without what is empty: a program that does not know of something yet takes over where there is
# nothing of it, as one that does takes over from it.
class TakeOver(Message, frozen=True, omit_defaults=True):
    """Everything there is.

    Attributes:
        record: The generation in force.
        files: The files that it names, by path.
        authorities: The authorities the system trusts; PEM.
        source: The file that a reload reads.
        seen: What it and other files said, and is not to come in force again by itself.
        history: The generations that are kept, if they are not on disk.
        keys: The secrets that all workers share.
        steering: Which slots there are; their workers all run.
        listeners: In the order of the configuration, and then those that drain.
        descriptors: ``segment``; ``tcp:N``, if it is in force, and ``udp:N:K`` for the K-th socket
            of each listener of number N; ``inbox:S``, ``way:S`` and ``process:S`` for each slot S;
            ``control`` and ``lock`` for the control socket, ``admin`` for the control API over TCP,
            ``metrics`` for the metrics, ``history`` for its lock, as far as there are such.
        ended: Listeners that were removed a moment ago.
    """

    record: Record
    files: dict[str, bytes]
    authorities: bytes
    source: str
    seen: FilesSeen
    history: tuple[Record, ...]
    keys: Keys
    steering: Steering
    listeners: tuple[InheritedListener, ...]
    descriptors: tuple[str, ...]
    ended: tuple[EndedListener, ...] = ()


class Begin(Message, frozen=True):
    """Serve new connections."""


class Over(Message, frozen=True):
    """No worker of the old program takes anything new, nor minds what comes in force."""


# --- from the new program ---------------------------------------------------------------------
class Prepared(Message, frozen=True):
    """The new workers are ready.

    Attributes:
        version: Of the new program.
        slots: Of its workers.
        descriptors: ``inbox:S``, ``way:S`` and ``process:S`` for each slot S, and ``udp:N:K`` for
            the K-th socket of each listener of number N, as far as the old program has none: it
            follows these workers if the new one dies.
    """

    version: str
    slots: tuple[int, ...]
    descriptors: tuple[str, ...]


class Failed(Message, frozen=True):
    """The new program cannot take over."""

    text: str


class Serving(Message, frozen=True):
    """New connections go to the new program."""


FromOld: TypeAlias = TakeOver | Begin | Over
FromNew: TypeAlias = Prepared | Failed | Serving

_encoder: Final = msgspec.msgpack.Encoder()
_from_old: Final[msgspec.msgpack.Decoder[FromOld]] = msgspec.msgpack.Decoder(FromOld)
_from_new: Final[msgspec.msgpack.Decoder[FromNew]] = msgspec.msgpack.Decoder(FromNew)

Any = TypeVar("Any")


def encode(message: FromOld | FromNew) -> bytes:
    """Return the bytes of a message."""
    return bytes((VERSION,)) + _encoder.encode(message)


def decode_from_old(data: bytes) -> FromOld:
    """Read a message of the old program.

    Raises:
        TakeOverError: It is none.
    """
    return _decode(data, _from_old)


def decode_from_new(data: bytes) -> FromNew:
    """Read a message of the new program; raises as :func:`decode_from_old`."""
    return _decode(data, _from_new)


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    if data[:1] != bytes((VERSION,)):
        spoken = data[0] if data else "none"
        raise TakeOverError(
            f"one program hands over in version {spoken} and the other in version {VERSION}: "
            "stop the old one and start the new one"
        )
    try:
        return decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise TakeOverError(f"the programs do not understand each other: {error}") from error
