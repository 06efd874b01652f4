"""One TCP listener of the control API: who may connect, how many, for how long."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from spooky.config.control_api import ControlApi
from spooky.config.networks import parse_address, parse_network
from spooky.control.admin_credentials import AdminCredentials
from spooky.control.leaving import all_gone, say_last
from spooky.control.sockets import bind_endpoint, bind_error, share_port
from spooky.control.timed_connection import TimedConnection
from spooky.edge.turning_away import turn_away

logger = logging.getLogger(__name__)

BACKLOG: Final = 64
"""Callers are few."""

HANDSHAKE_SECONDS: Final = 10.0
"""How long TLS may take to begin."""

ACCEPT_PAUSE_SECONDS: Final = 1.0
"""How long to wait when no connection can be accepted, for want of descriptors for instance."""

CLOSE_SECONDS: Final = 1.0
"""How long answers under way have when the listener closes."""

TOO_MANY: Final = "too_many_connections"
"""Why a connection is closed that is one too many."""

NO_TLS: Final = "listener_tls"
"""Why a connection is closed that TLS did not begin on, for want of a certificate for instance."""


class AdminListener:
    """Serves an application over TLS; bound at once, silent until told to begin.

    Arguments:
        application: What answers.
        settings: Where, and for whom.
        credentials: What is presented.
        is_busy: Says whether a change is being made for a connection.
        on_refused: Takes the address of a connection that was closed, why, and more of it for
            people.
        beside: What listens now, and closes later.
        inherited: What it listens on already, of a program that this one takes over from.

    Raises:
        BindError: The address cannot be bound.
    """

    def __init__(
        self,
        application: web.Application,
        settings: ControlApi,
        credentials: AdminCredentials,
        is_busy: Callable[[RequestHandler], bool],
        on_refused: Callable[[str, str, str], None],
        beside: Iterable[socket.socket] = (),
        inherited: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._is_busy = is_busy
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS
        )
        self._connections: set[asyncio.Task[None]] = set()
        self._timed: set[TimedConnection] = set()
        self._accepts_again: asyncio.TimerHandle | None = None
        self._is_leaving = False
        application.on_response_prepare.append(self._on_answer)
        self._socket = inherited or bind_endpoint(
            settings.address, settings.port, "control API", beside
        )
        self._socket.setblocking(False)

    @property
    def listening(self) -> socket.socket | None:
        """The socket that it listens on; ``None`` if it does not any more."""
        return self._socket if self._socket.fileno() >= 0 else None

    @property
    def address(self) -> tuple[str, int]:
        """Where it is bound."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def prepare(self) -> None:
        """Make everything that answering takes."""
        await self._runner.setup()

    def listen(self) -> None:
        """Have connections queue, just before they are accepted.

        Raises:
            BindError: Another program listens there since it was bound.
        """
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            address, port = self._settings.address, self._settings.port
            raise bind_error(address, port, "control API", error) from error

    def keep_port(self) -> None:
        """Share the port with no other socket any more."""
        share_port(self._socket, False)

    def begin(self) -> None:
        """Accept connections."""
        self._loop.add_reader(self._socket.fileno(), self._on_acceptable)

    def stop_accepting(self) -> None:
        """Close the listening socket; connections stay. Idempotent."""
        if self._accepts_again is not None:
            self._accepts_again.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def use(self, settings: ControlApi, credentials: AdminCredentials) -> None:
        """Go by other settings from now on; address and port stay.

        Connections that are open are closed, after what is under way: who made them may not be
        allowed any more.
        """
        self._settings, self._credentials = settings, credentials
        for timed in self._timed:
            timed.expire()

    def present(self, credentials: AdminCredentials) -> None:
        """Present a certificate that was renewed to those who connect from now on."""
        self._credentials = credentials

    def turn_away(self) -> bool:
        """Have the kernel let nobody in any more.

        Returns:
            Whether it does; if not, only to close ends that, and who waits was accepted.
        """
        turned_away = turn_away(self._socket)
        if not turned_away:
            self._on_acceptable()
        return turned_away

    async def leave(self, arrival_seconds: float) -> None:
        """Stop when those who were let in have had their answers, within a bounded time.

        Arguments:
            arrival_seconds: How long they may still come.
        """
        self._is_leaving = True
        await asyncio.sleep(arrival_seconds)
        self.stop_accepting()
        await all_gone(lambda: self._connections)
        await self.close()

    async def close(self) -> None:
        """Stop; idempotent."""
        self.stop_accepting()
        await self._runner.cleanup()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _on_acceptable(self) -> None:
        # Not by a task: one that is cancelled may have a connection that nobody would know of.
        for _ in range(BACKLOG):
            try:
                connection, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                logger.error("the control API accepts no connection: %s", error.strerror or error)
                self._loop.remove_reader(self._socket.fileno())
                self._accepts_again = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self.begin)
                return
            self._take(connection, str(peer[0]))

    def _take(self, connection: socket.socket, address: str) -> None:
        if refusal := self._refusal(address):
            connection.close()
            self._on_refused(address, refusal, "")
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._serve(connection, address))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _on_answer(self, _: web.Request, response: web.StreamResponse) -> None:
        if self._is_leaving:
            say_last(response)

    def _refusal(self, address: str) -> str:
        """Return why a connection is closed at once; empty if it is not."""
        if len(self._connections) >= self._settings.max_connections:
            return TOO_MANY
        networks = self._settings.ip_allowlist.cidrs
        caller = parse_address(address)
        if networks and not any(caller in parse_network(network) for network in networks):
            return "source_ip_not_allowed"
        return ""

    async def _serve(self, connection: socket.socket, address: str) -> None:
        """Serve a connection until it ends."""
        server = self._runner.server
        assert server is not None
        seconds = self._settings.connection_timeout_ms / 1000
        timed = TimedConnection(server(), seconds, self._is_busy)
        transport: asyncio.Transport | None = None
        self._timed.add(timed)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: timed,
                connection,
                ssl=self._credentials.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
            await timed.lost
        except (OSError, ssl.SSLError, TimeoutError) as error:
            # Scanners and callers without a certificate: theirs, and no answer can reach them.
            self._on_refused(address, NO_TLS, _why(error))
        finally:
            timed.end()
            self._timed.discard(timed)
            if transport is not None:
                transport.abort()
            else:
                with contextlib.suppress(OSError):
                    connection.close()


def _why(error: OSError) -> str:
    """Return what was wrong with a handshake, as the library of TLS calls it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "").replace("_", " ").lower()
    return "the caller left, or took too long"
