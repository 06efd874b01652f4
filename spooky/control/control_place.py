"""Where the control socket, the history and the keys are, through changes."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine

from aiohttp import web

from spooky.config.control import Control
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.control.control_socket import ControlSocket, ControlSocketError
from spooky.control.history import History, HistoryError, Place
from spooky.control.places import socket_path, state_directory
from spooky.control.shared_keys import SharedKeys

logger = logging.getLogger(__name__)


def open_history(control: Control, lock: int | None = None) -> History:
    """Open the history; if the place is not chosen and cannot be used, keep it in memory.

    Arguments:
        lock: The lock of a program that this one takes over from; it is the history's then.

    Raises:
        HistoryError: The chosen directory cannot be used.
    """
    try:
        return History(state_directory(control), control.history, lock)
    except HistoryError as error:
        if control.state_dir is not None:
            raise
        logger.warning("%s; it will not outlive this process (control.state_dir)", error)
        return History(None, control.history)


class ControlPlace:
    """Owns the control socket, and moves it, the history and the keys when the configuration does.

    Arguments:
        history: Where generations are kept.
        keys: Kept beside it.
        make_application: Makes what answers on the socket.
    """

    def __init__(
        self,
        history: History,
        keys: SharedKeys,
        make_application: Callable[[], web.Application],
    ) -> None:
        self._history = history
        self._keys = keys
        self._make_application = make_application
        self._control = Control()
        self._socket: ControlSocket | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def descriptors(self) -> dict[str, int]:
        """What a program that takes over needs, by name."""
        return self._socket.descriptors if self._socket is not None else {}

    async def start(
        self, control: Control, inherited: tuple[socket.socket, int] | None = None
    ) -> None:
        """Listen; if the place is not chosen and cannot be used, go without.

        Arguments:
            inherited: The socket and the lock of a program that this one takes over from.

        Raises:
            ControlSocketError: The chosen path cannot be used.
        """
        self._control = control
        made = ControlSocket(socket_path(control), self._make_application())
        try:
            await made.start(inherited)
        except ControlSocketError as error:
            if control.socket is not None:
                raise
            logger.warning("%s; commands cannot reach this process (control.socket)", error)
            return
        self._socket = made

    def leave(self) -> None:
        """Stop, and leave everything to the program that took over."""
        left, self._socket = self._socket, None
        if left is not None:
            self._later(left.leave())

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._socket is not None:
            await self._socket.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
        self._history.close()

    async def prepare(self, change: NextGeneration) -> Step:
        """Open another socket and write the history elsewhere, if they move.

        Raises:
            PrepareError: One cannot be.
        """
        control, before = change.candidate.configuration.control, self._control
        # What is closed still may have the path or the directory that is wanted again.
        await asyncio.gather(*self._closing, return_exceptions=True)
        left: Place | None = None
        old = new = self._socket
        try:
            if control.state_dir != before.state_dir:
                left = await asyncio.to_thread(self._history.move, state_directory(control))
            path = socket_path(control)
            if path != (old.path if old is not None else socket_path(before)):
                new = ControlSocket(path, self._make_application())
                await new.open()
        except (ControlSocketError, HistoryError) as error:
            self._go_back(left)
            raise PrepareError(str(error)) from error

        def check() -> None:
            if new is not None and old is not new:
                new.listen()

        def commit() -> None:
            self._control, self._socket = control, new
            if left is not None:
                # While the old place is ours.
                self._keys.move(self._history.directory)
                left.close()
                self._later(self._keys.save())
            self._history.keep(control.history)
            if old is not new:
                self._later(new.begin() if new is not None else None)
                self._later(old.close() if old is not None else None)

        def discard() -> None:
            self._go_back(left)
            if old is not new:
                self._later(new.close() if new is not None else None)

        return Step(commit, discard, check)

    def _go_back(self, left: Place | None) -> None:
        """Keep the history where it was before a change that came to nothing."""
        if left is not None:
            self._history.use(left).close()

    def _later(self, work: Coroutine[None, None, None] | None) -> None:
        if work is not None:
            task = asyncio.get_running_loop().create_task(work)
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
