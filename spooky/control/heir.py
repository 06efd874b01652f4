"""Taking a running service over from another program, as the one that takes over sees it."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from spooky._core.shared import Segment
from spooky._version import __version__
from spooky.control.candidate import Candidate, inherit_candidate
from spooky.control.slots import SLOTS
from spooky.control.takeover import (
    Begin,
    Failed,
    FromNew,
    FromOld,
    Over,
    Prepared,
    Serving,
    TakeOver,
    TakeOverError,
    decode_from_old,
    encode,
)
from spooky.generation.materials import Materials
from spooky.observe.segment import create_segment, open_segment
from spooky.runtime.channel import Channel

logger = logging.getLogger(__name__)

RECEIVE_SECONDS: Final = 10.0
"""How long the old program may take to say what there is."""

OVER_SECONDS: Final = 30.0
"""How long its workers may take to begin to finish; one that hangs is killed by then."""

TEXT_MAX: Final = 4096
"""Longest text about a failure; characters."""


class Heir:
    """Takes over from the program at the other end of a channel.

    Arguments:
        end: Our end.

    Attributes:
        left: What the other program has, once it is received.
        descriptors: Of its sockets and files, by name; whoever uses one takes it out.
    """

    left: TakeOver

    def __init__(self, end: socket.socket) -> None:
        self._heard: asyncio.Queue[FromOld | TakeOverError | None] = asyncio.Queue()
        self.descriptors: dict[str, int] = {}
        self._gone = False
        self._channel = Channel(end, self._on_data, self._on_silence)

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots of the other program's workers."""
        steering = self.left.steering
        return (*steering.active, *steering.leaving)

    async def receive(self) -> Candidate:
        """Return what is in force there.

        Raises:
            TakeOverError: It is not told.
            ConfigurationError: It is not valid for this program.
            MaterialError: A certificate or key cannot be used.
        """
        message = await self._hear(RECEIVE_SECONDS)
        if not isinstance(message, TakeOver):
            raise TakeOverError("the old program does not say what there is")
        self.left = message
        record = message.record
        materials = Materials(message.files, message.authorities)
        candidate = inherit_candidate(record.text, record.path, materials)
        return candidate.overridden(record.overrides)

    def fail(self, text: str) -> None:
        """Say that this program cannot take over."""
        self._send(Failed(text[:TEXT_MAX]))

    async def wait_for_begin(self, slots: tuple[int, ...], named: Mapping[str, int]) -> None:
        """Say that the workers are ready, and wait until they shall serve.

        If the other program dies meanwhile, that is now.

        Arguments:
            slots: Theirs.
            named: Descriptors as :class:`Prepared` names them; those of processes are closed.

        Raises:
            TakeOverError: It says something else.
        """
        self._send(Prepared(__version__, slots, tuple(named)), named.values())
        for name, descriptor in named.items():
            if name.startswith("process:"):
                os.close(descriptor)
        message = await self._hear(None)
        if not isinstance(message, Begin | None):
            raise TakeOverError("the old program speaks out of turn")

    async def wait_until_over(self) -> None:
        """Say that this program serves, and wait until the other takes nothing new."""
        self._send(Serving())
        message = await self._hear(OVER_SECONDS)
        if not isinstance(message, Over):
            logger.error("the old program did not say that it is over; it may have died")

    def take(self, name: str) -> socket.socket | None:
        """Return an inherited socket, if there is one of this name; the caller's from now on."""
        descriptor = self.descriptors.pop(name, None)
        return None if descriptor is None else socket.socket(fileno=descriptor)

    def close(self) -> None:
        """Close what nobody took, and the channel; idempotent."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors = {}
        self._channel.close()

    async def _hear(self, seconds: float | None) -> FromOld | None:
        """Return what the other program says next; ``None`` if it is gone, or says nothing.

        Raises:
            TakeOverError: It cannot be understood.
        """
        if self._gone and self._heard.empty():
            return None
        try:
            async with asyncio.timeout(seconds):
                message = await self._heard.get()
        except TimeoutError:
            return None
        if isinstance(message, TakeOverError):
            raise message
        return message

    def _send(self, message: FromNew, descriptors: Iterable[int] = ()) -> None:
        self._channel.send(encode(message), list(descriptors))

    def _on_data(self, data: bytes, descriptors: list[int]) -> None:
        try:
            message = decode_from_old(data)
        except TakeOverError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._heard.put_nowait(error)
            return
        if isinstance(message, TakeOver):
            self.descriptors = dict(zip(message.descriptors, descriptors, strict=True))
        self._heard.put_nowait(message)

    def _on_silence(self) -> None:
        self._gone = True
        self._heard.put_nowait(None)


def shared_segment(heir: Heir | None) -> tuple[Segment, int]:
    """Return the shared segment and its descriptor: that of the program before, if it fits."""
    inherited = heir.descriptors.pop("segment") if heir is not None else None
    if inherited is not None:
        try:
            segment = open_segment(inherited)
        except ValueError as error:
            logger.warning("counters and limits begin anew: %s", error)
        else:
            if segment.slots == SLOTS:
                return segment, inherited
        os.close(inherited)
    return create_segment(SLOTS)
