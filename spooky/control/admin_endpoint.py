"""The control API over TCP and the audit log through changes: opened, moved, closed."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator

from spooky.config.control_api import ControlApi as Settings
from spooky.control.access import RemoteAccess
from spooky.control.admin_credentials import AdminCredentials
from spooky.control.admin_listener import TOO_MANY, AdminListener
from spooky.control.api import ControlApi
from spooky.control.audit import AuditLog, AuditSink
from spooky.control.candidate import Candidate
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.control.endpoints import endpoints_at
from spooky.control.leaving import Leaving
from spooky.control.refused_connections import RefusedConnections
from spooky.control.sockets import BindError
from spooky.observe.metrics import Fact, Kind

logger = logging.getLogger(__name__)


class AdminEndpoint:
    """Serves the control API over TCP where and if the configuration in force says so.

    Arguments:
        api: What answers.
        audit: Where requests are written down.
        generation: Gives the number of the generation in force.
    """

    def __init__(self, api: ControlApi, audit: AuditLog, generation: Callable[[], int]) -> None:
        self._api = api
        self._audit = audit
        self._refused = RefusedConnections(audit.write, generation)
        self._loop = asyncio.get_running_loop()
        self._settings = Settings()
        self._credentials = AdminCredentials()
        # Who was let in before it was removed is judged by the last there were.
        self._rules = self._settings, self._credentials
        self._listener: AdminListener | None = None
        self._leaving = Leaving()
        self._closing: set[asyncio.Task[None]] = set()
        self._too_many = 0

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens; ``None`` if it does not."""
        return self._listener.address if self._listener is not None else None

    @property
    def descriptors(self) -> dict[str, int]:
        """What a program that takes over needs, by name."""
        listening = self._listener.listening if self._listener is not None else None
        return {"admin": listening.fileno()} if listening is not None else {}

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        yield Fact(
            "control_api_connection_limit_drops_total",
            "Connections to the control API that were closed as too many were open.",
            self._too_many, kind=Kind.COUNTER,
        )  # fmt: skip
        yield Fact(
            "control_api_audit_write_failures_total", "Audit lines that could not be written.",
            self._audit.failures, kind=Kind.COUNTER,
        )  # fmt: skip

    async def start(self, candidate: Candidate, inherited: socket.socket | None = None) -> None:
        """Begin.

        Arguments:
            inherited: The socket of a program that this one takes over from, where callers wait.

        Raises:
            BindError: The address cannot be bound, and the control API is required.
            OSError: The audit log cannot be opened.
        """
        settings = candidate.configuration.observability.control_api
        self._audit.use(AuditSink.open(settings.audit))
        self._settings, self._credentials = settings, candidate.credentials
        self._rules = settings, candidate.credentials
        if not settings.enabled:
            return
        try:
            listener = await self._open(settings, candidate.credentials, inherited=inherited)
            listener.listen()
        except BindError as error:
            if settings.required:
                raise
            logger.error("serving without the control API over TCP: %s", error)
            return
        listener.begin()
        self._listener = listener
        logger.info("the control API is on %s port %d", *listener.address)

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._listener is not None:
            await self._listener.close()
        await self._leaving.end()
        await asyncio.gather(*self._closing)
        self._refused.close()
        self._audit.close()

    def leave(self) -> None:
        """Accept nobody any more, for the program that took over to do so."""
        left, self._listener = self._listener, None
        if left is not None:
            self._leaving.hand_over(left)

    def reopen(self) -> None:
        """Open the audit log anew.

        Raises:
            OSError: It cannot be opened; the old one stays in use.
        """
        self._audit.reopen()

    async def prepare(self, change: NextGeneration) -> Step:
        """Bind where the control API will be, if it moves, and open its audit log.

        Raises:
            PrepareError: One cannot be.
        """
        settings = change.candidate.configuration.observability.control_api
        credentials = change.candidate.credentials
        old = new = self._listener
        # What could not be bound before and is not touched stays so, and stops no other change.
        moves = _place(settings) != _place(self._settings)
        sink = self._prepared_sink(settings)

        def discard() -> None:
            if sink is not None:
                sink.close()
            if old is not None:
                old.keep_port()
            if new is not old:
                self._close_later(new)

        try:
            if moves:
                new = await self._open(settings, credentials) if settings.enabled else None
        except BindError as error:
            discard()
            raise PrepareError(str(error)) from error

        def check() -> None:
            if moves and new is not None:
                try:
                    new.listen()
                except BindError as error:
                    raise PrepareError(str(error)) from error

        def commit() -> None:
            changed = (settings, credentials.files) != (self._settings, self._credentials.files)
            admits_alike = _admission(settings, credentials) == _admission(
                self._settings, self._credentials
            )
            self._listener, self._settings, self._credentials = new, settings, credentials
            if settings.enabled:
                self._rules = settings, credentials
            if sink is not None:
                self._audit.use(sink)
            if moves:
                if new is not None:
                    new.keep_port()
                    new.begin()
                if old is not None and new is not None and not admits_alike:
                    # Who is connected may not be allowed any more.
                    old.use(settings, credentials)
                if old is not None:
                    self._leaving.leave(old)
            elif new is not None and changed:
                new.use(settings, credentials)
            elif new is not None:
                new.present(credentials)

        return Step(commit, discard, check)

    def _prepared_sink(self, settings: Settings) -> AuditSink | None:
        if settings.audit == self._settings.audit:
            return None
        try:
            return AuditSink.open(settings.audit)
        except OSError as error:
            raise PrepareError(f"cannot open the audit log: {error}") from error

    async def _open(
        self,
        settings: Settings,
        credentials: AdminCredentials,
        inherited: socket.socket | None = None,
    ) -> AdminListener:
        access = RemoteAccess(lambda: self._rules)
        listening = self._listener.listening if self._listener is not None else None
        beside = self._leaving.listening
        listener = AdminListener(
            self._api.application(access, endpoints_at(settings.paths)),
            settings,
            credentials,
            self._api.busy.__contains__,
            self._on_refused,
            beside if listening is None else [*beside, listening],
            inherited,
        )
        await listener.prepare()
        return listener

    def _on_refused(self, peer: str, code: str, detail: str = "") -> None:
        self._too_many += code == TOO_MANY
        self._refused.add(peer, code, detail)

    def _close_later(self, listener: AdminListener | None) -> None:
        if listener is not None:
            self._later(listener.close())

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _admission(settings: Settings, credentials: AdminCredentials) -> tuple[object, ...]:
    """Return what decides who is admitted."""
    return (
        credentials.files, settings.tls, settings.auth, settings.authorization,
        settings.ip_allowlist,
    )  # fmt: skip


def _place(settings: Settings) -> tuple[bool, str, int, dict[str, str]]:
    """Return what cannot change under a listener that is open."""
    return settings.enabled, settings.address, settings.port, settings.paths
