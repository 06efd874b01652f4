"""The Unix socket of the control API: who may connect, and where it is through changes."""

import contextlib
import fcntl
import logging
import os
import pwd
import socket
from pathlib import Path
from typing import Final

from aiohttp import web

from spooky.control.leaving import all_gone
from spooky.control.peer import CREDENTIALS
from spooky.control.safe_files import check_directory, open_lock

logger = logging.getLogger(__name__)

BACKLOG: Final = 16
"""Local commands are few."""

CLOSE_SECONDS: Final = 1.0
"""How long answers under way have when the socket closes."""

DIRECTORY_MODE: Final = 0o755
SOCKET_UMASK: Final = 0o177
"""Only the socket's owner connects, and root, whom no mode stops."""


class ControlSocketError(Exception):
    """The control socket cannot be made; says where, and why."""


class ControlSocket:
    """Serves an application on a Unix socket, to its own user and root.

    Arguments:
        path: Where.
        application: What.

    Attributes:
        path: Where.
    """

    def __init__(self, path: Path, application: web.Application) -> None:
        self.path = path
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS
        )
        self._lock: int | None = None
        self._listening: socket.socket | None = None

    @property
    def descriptors(self) -> dict[str, int]:
        """The descriptors of the socket and of the lock, by name, for a program that takes over."""
        if self._lock is None or self._listening is None:
            return {}
        return {"control": self._listening.fileno(), "lock": self._lock}

    async def start(self, inherited: tuple[socket.socket, int] | None = None) -> None:
        """Listen and answer.

        Arguments:
            inherited: The socket and the lock of a program that this one takes over from.

        Raises:
            ControlSocketError: It cannot be; another Spooky may have the path.
        """
        if inherited is None:
            await self.open()
            self.listen()
        else:
            self._listening, self._lock = inherited
            await self._runner.setup()
        await self.begin()

    async def open(self) -> None:
        """Take the path; clients that connect are refused until :meth:`listen`.

        Raises:
            ControlSocketError: It cannot be; another Spooky may have the path.
        """
        try:
            self._listening = self._bind()
        except OSError as error:
            raise ControlSocketError(
                f"the control socket {self.path} cannot be made: {error.strerror or error}"
            ) from error
        await self._runner.setup()

    def listen(self) -> None:
        """Have clients wait until :meth:`begin`."""
        assert self._listening is not None
        self._listening.listen(BACKLOG)

    async def begin(self) -> None:
        """Answer."""
        if self._listening is not None:
            await web.SockSite(self._runner, self._listening, backlog=BACKLOG).start()

    async def leave(self) -> None:
        """Stop, and leave the path to the program that took over."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        for site in list(self._runner.sites):
            await site.stop()
        server = self._runner.server
        if server is not None:
            # Who is connected already has no other to ask.
            await all_gone(lambda: server.connections)
        await self._runner.cleanup()

    async def close(self) -> None:
        """Stop; idempotent."""
        await self._runner.cleanup()
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        if self._lock is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            os.close(self._lock)
            self._lock = None

    def _bind(self) -> socket.socket:
        self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        check_directory(self.path.parent, shared=True)
        # Whoever holds the lock owns the path: a socket file that a crash left is replaced, and
        # that of a running Spooky never.
        self._lock = open_lock(Path(f"{self.path}.lock"))
        made = socket.socket(socket.AF_UNIX)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(error.errno, "another Spooky uses it") from error
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            old = os.umask(SOCKET_UMASK)
            try:
                made.bind(str(self.path))
            finally:
                os.umask(old)
        except OSError:
            made.close()
            os.close(self._lock)
            self._lock = None
            raise
        made.setblocking(False)
        return made


def peer_user(request: web.BaseRequest) -> int | None:
    """Return the user id of whoever made a request over a Unix socket; ``None`` if unknown."""
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None:
        return None
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(data)[1])


def user_name(user: int) -> str:
    """Return what a user is called."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
