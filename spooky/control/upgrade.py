"""Handing a running service over to another program, as the one that hands over sees it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from spooky.control.change import ChangeError
from spooky.control.changes import Changes
from spooky.control.crew import HANDLES
from spooky.control.service_manager import WATCHDOG_PROCESS_VARIABLE
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
    decode_from_new,
    encode,
)
from spooky.runtime.channel import Channel, ChannelFullError

logger = logging.getLogger(__name__)

PREPARE_SECONDS: Final = 90.0
"""How long the new program may take until its workers are ready; their own limit is a minute."""

BEGIN_SECONDS: Final = 10.0
"""How long it may take to begin, for which everything is ready."""

OPTION: Final = "--take-over"
"""Tells ``spooky serve`` the descriptor of its end of the channel."""


FromNewMessage = TypeVar("FromNewMessage", bound=FromNew)


class UpgradeError(ChangeError):
    """The new program does not take over, and the old one goes on; says why."""


class Upgraded(NamedTuple):
    """What came of an upgrade.

    Attributes:
        version: Of the new program.
        pid: Its process.
        seconds: How long it took until it served.
    """

    version: str
    pid: int
    seconds: float


class Predecessor(Protocol):
    """What hands over."""

    def inheritance(self) -> tuple[TakeOver, dict[str, int]]:
        """Return everything there is, and its descriptors by name.

        Those of processes are the caller's to close.

        Raises:
            UpgradeError: It cannot be handed over now.
        """

    def may_hand_over(self) -> str:
        """Return why it cannot be handed over; empty if it can."""

    def keep(self, slots: Sequence[int], named: Mapping[str, int]) -> None:
        """Serve on, after the new program may have begun; its workers finish what they have.

        Arguments:
            slots: Of its workers.
            named: The descriptors that came with its :class:`Prepared`.
        """

    async def hand_over(self, pid: int, slots: Sequence[int], ways: Mapping[int, int]) -> None:
        """Finish what there is; return when nothing new is taken any more.

        Arguments:
            pid: The new program's process.
            slots: Of its workers.
            ways: Descriptors of the ways to their inboxes, by slot.
        """


class Upgrade:
    """Has other programs take over, one at a time.

    Arguments:
        predecessor: What hands over.
        changes: Which wait meanwhile.
    """

    def __init__(self, predecessor: Predecessor, changes: Changes) -> None:
        self._predecessor = predecessor
        self._changes = changes
        self._successor: _Successor | None = None

    async def run(self, program: str | None) -> Upgraded:
        """Start a program and have it take over.

        Arguments:
            program: An executable; ``None`` for what this was started with, as it is now on disk.

        Raises:
            UpgradeError: It does not, and nothing has changed.
            ChangeError: Spooky is ending.
        """
        began = time.monotonic()
        async with self._changes.halted():
            try:
                arguments = command(program)
                successor = self._successor = _Successor(arguments)
            except OSError as error:
                raise UpgradeError(f"{arguments[0]} cannot be started: {error.strerror}") from error
            try:
                prepared, handles = await self._begin(successor)
            except BaseException as error:
                logger.error("not upgraded: %s", error)
                self._successor = None
                successor.kill()
                successor.close()
                raise
            # The channel stays: the new program sees by its end that this one is gone.
            self._changes.ending = self._changes.handed_over = True
            await self._leave(successor, prepared.slots, handles)
        seconds = time.monotonic() - began
        logger.info("version %s took over as process %d", prepared.version, successor.pid)
        return Upgraded(prepared.version, successor.pid, seconds)

    def abort(self) -> None:
        """End a program that is about to take over, and has not yet."""
        if self._successor is not None and not self._changes.ending:
            self._successor.kill()

    async def _begin(self, successor: "_Successor") -> tuple[Prepared, dict[str, int]]:
        """Have it begin; return what it has, and its descriptors by name, the caller's to close."""
        predecessor = self._predecessor
        take_over, named = predecessor.inheritance()
        successor.send(take_over, named)
        for name, descriptor in named.items():
            if name.startswith("process:"):
                os.close(descriptor)
        prepared, descriptors = await successor.hear(Prepared, PREPARE_SECONDS)
        try:
            handles = _handles_in(prepared, descriptors)
            try:
                if reason := predecessor.may_hand_over():
                    raise UpgradeError(reason)
                successor.send(Begin(), {})
                await successor.hear(Serving, BEGIN_SECONDS)
            except BaseException:
                successor.kill()
                predecessor.keep(prepared.slots, handles)
                raise
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return prepared, handles

    async def _leave(
        self, successor: "_Successor", slots: Sequence[int], handles: Mapping[str, int]
    ) -> None:
        """Finish what there is; whatever goes wrong here, the new program serves."""
        ways = {slot: handles[f"way:{slot}"] for slot in slots}
        try:
            await self._predecessor.hand_over(successor.pid, slots, ways)
        except Exception:
            logger.exception("not all was handed over as it should be; the new program serves")
        finally:
            for descriptor in handles.values():
                os.close(descriptor)
        try:
            successor.send(Over(), {})
        except UpgradeError as error:
            logger.error("%s any more, and serves", error)


def _handles_in(prepared: Prepared, descriptors: Sequence[int]) -> dict[str, int]:
    """Return the descriptors that came with a message, by name.

    Raises:
        UpgradeError: Some are missing.
    """
    handles = dict(zip(prepared.descriptors, descriptors, strict=False))
    needed = {f"{kind}:{slot}" for kind in HANDLES for slot in prepared.slots}
    if len(handles) != len(descriptors) or needed - handles.keys():
        raise UpgradeError("the new program does not say how its workers are reached")
    return handles


def command(program: str | None) -> list[str]:
    """Return the command that takes over, but for the descriptor."""
    if program is not None:
        return [program, "serve", OPTION]
    # Python with its own options, up to ours: the same installation, whatever version it has now.
    started = sys.orig_argv
    return [sys.executable, *started[1 : started.index("serve")], "serve", OPTION]


class _Successor:
    """The new program.

    Arguments:
        arguments: Its command, but for the descriptor.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[tuple[FromNew | TakeOverError, list[int]]] = asyncio.Queue()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The watchdog names the process that it watches, which is another from then on.
        environment = {
            name: value for name, value in os.environ.items() if name != WATCHDOG_PROCESS_VARIABLE
        }
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*arguments, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
            except OSError:
                ours.close()
                raise
        self._channel = Channel(ours, self._on_data, lambda: None)
        try:
            self._exit = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            self._channel.close()
            raise
        self._loop.add_reader(self._exit, self._on_exited)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, message: FromOld, descriptors: Mapping[str, int]) -> None:
        """Tell it something.

        Raises:
            UpgradeError: It does not listen.
        """
        try:
            self._channel.send(encode(message), list(descriptors.values()))
        except ChannelFullError as error:
            raise UpgradeError("the new program does not listen") from error

    async def hear(
        self, kind: type[FromNewMessage], seconds: float
    ) -> tuple[FromNewMessage, list[int]]:
        """Return what it says next, and the descriptors, which are the caller's to close.

        Raises:
            UpgradeError: It says something else, or nothing in time.
        """
        try:
            async with asyncio.timeout(seconds):
                message, descriptors = await self._heard.get()
        except TimeoutError as error:
            text = f"the new program was not ready within {seconds:.0f} s"
            raise UpgradeError(text) from error
        if isinstance(message, kind):
            return message, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(message, Failed):
            raise UpgradeError(f"the new program cannot take over: {message.text}")
        if isinstance(message, TakeOverError):
            raise UpgradeError(str(message))
        raise UpgradeError(f"the new program said {type(message).__name__} out of turn")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _on_data(self, data: bytes, descriptors: list[int]) -> None:
        try:
            self._heard.put_nowait((decode_from_new(data), descriptors))
        except TakeOverError as error:
            self._heard.put_nowait((error, descriptors))

    def _on_exited(self) -> None:
        self._loop.remove_reader(self._exit)
        os.close(self._exit)
        code = self._process.wait()
        # What it said last may still be unread.
        self._channel.read_rest()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        error = TakeOverError(f"the new program ended {how} before it served; its output says more")
        self._heard.put_nowait((error, []))
