"""Running the proxy as a service: the sockets, the files, the names, and the workers."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spooky._version import __version__
from spooky.config.problems import ConfigurationError
from spooky.config.schema import Configuration
from spooky.control.audit import AuditLog
from spooky.control.candidate import Candidate
from spooky.control.change import (
    Asked,
    ChangeError,
    Committed,
    Participant,
)
from spooky.control.changes import Changes
from spooky.control.crew import Crew
from spooky.control.facts import (
    build_facts,
    configuration_facts,
    history_fact,
    probation_facts,
    process_facts,
    worker_facts,
)
from spooky.control.file_limit import allow_many_files
from spooky.control.file_watch import FileWatch
from spooky.control.first_generation import Resumed, begin_with
from spooky.control.health import Health
from spooky.control.heir import Heir, shared_segment
from spooky.control.history import History, HistoryError
from spooky.control.inspection import Inspection
from spooky.control.listeners import Listeners
from spooky.control.logs import Logs
from spooky.control.metrics_endpoint import MetricsEndpoint
from spooky.control.names import Names
from spooky.control.orders import Orders
from spooky.control.outside_resolver import OutsideResolver
from spooky.control.places import socket_path
from spooky.control.predecessor import wait_for_end
from spooky.control.probation import Probation
from spooky.control.service_manager import ServiceManager
from spooky.control.shared_keys import SharedKeys
from spooky.control.slots import Slots, StartError, worker_count
from spooky.control.state import State
from spooky.control.takeover import TakeOver, TakeOverError
from spooky.control.traffic import TrafficReader
from spooky.control.upgrade import Upgrade, UpgradeError
from spooky.control.worker_process import WorkerProcess
from spooky.control.worker_watch import WorkerWatch
from spooky.edge.messages import Resolve, Resolved, UseKeys, UseLogs
from spooky.generation.materials import MaterialError
from spooky.observe.metrics import Fact
from spooky.protocol.quic.steering import Steering
from spooky.runtime import Runtime
from spooky.runtime.confinement import keep_no_secrets
from spooky.upstream.resolver import SystemResolver

if TYPE_CHECKING:
    from spooky.control.admin_endpoint import AdminEndpoint
    from spooky.control.control_place import ControlPlace

logger = logging.getLogger(__name__)


class Supervisor:
    """Owns everything of one ``spooky serve`` that outlives a worker.

    Arguments:
        candidate: What to serve.
        announce: Called with the bound addresses once clients can connect.
        heir: What takes over from another program, if this does.
        resumed: The generation that it is, if it is not what the file says.
    """

    def __init__(
        self,
        candidate: Candidate,
        announce: Callable[[list[tuple[str, int]]], None],
        heir: Heir | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self._heir, self._resumed = heir, resumed
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        count = worker_count(candidate.configuration)
        self._slots = Slots(count, heir.left.steering if heir is not None else None)
        self._keys = SharedKeys(
            heir.left.keys if heir is not None else None,
            lambda keys: self._crew.tell(UseKeys(keys)),
            lambda: self._changes.halted(),
        )
        resolve = OutsideResolver(SystemResolver(self._loop), lambda: self._configuration)
        self._names = Names(resolve)
        self._segment, self._segment_file = shared_segment(heir)
        self._started = time.time()
        self._phase = State.STARTING
        self._service_manager = ServiceManager(os.environ)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runtime = Runtime(self._loop)
        self._health = Health(self._runtime, self._segment, resolve, self._on_addresses)
        self._metrics = MetricsEndpoint(self._segment, self._facts)
        self._listeners = Listeners(self._slots)
        self._crew = Crew(
            self._slots,
            self._segment,
            lambda slot, ways: self._orders.start(slot, ways),
            self._on_resolve,
            self._on_left,
        )
        patience = self._service_manager.patience
        self._watch = WorkerWatch(self._runtime, self._segment, self._crew, patience)
        self._candidate = candidate
        self._control: ControlPlace | None = None
        self._admin: AdminEndpoint | None = None
        self._changes: Changes
        self._probation: Probation
        self._upgrade: Upgrade
        self._file_watch: FileWatch | None = None
        self._logs: Logs
        self._orders: Orders

    async def run(self) -> bool:
        """Serve until told to stop by SIGTERM or SIGINT.

        The first signal drains, a second stops at once; SIGHUP reloads the configuration, SIGUSR1
        reopens log files.

        Returns:
            Whether everything in flight finished.

        Raises:
            BindError: An address cannot be bound.
            ControlSocketError: The control socket cannot be made.
            HistoryError: The history cannot be used.
            StartError: The workers cannot serve.
        """
        self._loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal)
        try:
            self._open_logs()
            if self._heir is None and self._candidate.path:
                await self._wait_for_predecessor()
            self._open()
            self._open_changes()
            if self._heir is None:
                await self._open_endpoints()
            self._segment.commit(self._changes.record.number)
            await self._crew.start()
            if self._heir is not None:
                await self._take_over(self._heir)
            await self._keep_start()
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_stop_signal, number)
            self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
            rotation = self._loop.create_task(self._keys.run())
            addresses = self._listeners.addresses
            self._phase = State.SERVING
            self._changes.starting = False
            self._follow()
            self._probation.start()
            if self._candidate.path:
                self._file_watch = FileWatch(self._changes, lambda: self._probation.is_open)
                self._file_watch.start()
            self._announce(addresses)
            self._service_manager.ready(self._status)
            # More than this loop has to be alive; workers that drain may all have exited.
            self._service_manager.watch(lambda: self._state() is not State.NO_WORKER)
            shown = ", ".join(f"{host} port {port}" for host, port in addresses)
            logger.info("serving on %s with %d workers", shown, len(self._slots.active))
            await self._wake.wait()
            self._phase = State.DRAINING
            self._watch.close()
            self._health.close()
            self._probation.close()
            if self._file_watch is not None:
                self._file_watch.close()
            rotation.cancel()
            return await self._end()
        finally:
            self._health.close()
            await self._runtime.close()
            self._service_manager.close()
            if self._control is not None:
                await self._control.close()
            if self._admin is not None:
                await self._admin.close()
            await self._metrics.close()
            self._close()

    @property
    def _configuration(self) -> Configuration:
        """What is in force."""
        return self._changes.running.configuration

    # --- the beginning and the end ------------------------------------------------------------

    def _open_logs(self) -> None:
        """Have somewhere to say what happens."""
        try:
            self._logs = Logs(self._candidate.configuration)
        except OSError as error:
            raise StartError(f"cannot open a log: {error}") from error

    async def _wait_for_predecessor(self) -> None:
        """Wait until what serves no more in this place has ended."""
        configuration = self._candidate.configuration
        seconds = configuration.performance.shutdown_drain_timeout_ms / 1000
        place = socket_path(configuration.control)
        await wait_for_end(place, seconds, self._service_manager.show)

    def _open(self) -> None:
        """Make everything that workers need."""
        configuration = self._candidate.configuration
        allow_many_files()
        keep_no_secrets()
        if self._heir is None:
            self._listeners.open(configuration)
            return
        for slot in self._heir.slots:
            inbox, way = self._heir.take(f"inbox:{slot}"), self._heir.take(f"way:{slot}")
            process = self._heir.descriptors.pop(f"process:{slot}", None)
            if inbox is None or way is None or process is None:
                raise TakeOverError(f"worker {slot} is missing")
            self._crew.inherit(slot, inbox, way, process)
        self._listeners.inherit(self._heir, configuration.performance)

    async def _open_endpoints(
        self,
        metrics: socket.socket | None = None,
        control: tuple[socket.socket, int] | None = None,
        admin: socket.socket | None = None,
    ) -> None:
        """Answer scrapers and commands.

        Arguments:
            metrics: The socket for scrapers of a program that this one takes over from.
            control: Its socket for commands, and the lock of that.
            admin: Its socket for callers over TCP.
        """
        await self._metrics.start(self._configuration.observability.metrics, metrics)
        if self._admin is not None:
            try:
                await self._admin.start(self._changes.running, admin)
            except OSError as error:
                raise StartError(f"cannot open the audit log: {error}") from error
        if self._control is not None:
            await self._control.start(self._configuration.control, control)

    def _open_changes(self) -> None:
        """Make what changes the service, if it came from a file that may change."""
        candidate = self._candidate
        if not candidate.path:
            history = History(None, candidate.configuration.control.history)
            self._use_history(history)
            return
        # Only who can use it waits for aiohttp.
        from spooky.control.access import OwnerAccess
        from spooky.control.admin_endpoint import AdminEndpoint
        from spooky.control.api import ControlApi
        from spooky.control.control_place import ControlPlace, open_history

        lock = self._heir.descriptors.pop("history", None) if self._heir is not None else None
        history = open_history(candidate.configuration.control, lock)
        self._use_history(history)
        self._keys.open(history.directory)
        audit = AuditLog()
        api = ControlApi(
            self._changes,
            self._probation,
            self._inspection(),
            self._process_facts,
            lambda: State.SERVING if self._crew.handed_over else self._state(),
            self._upgrade.run,
            audit,
        )
        self._control = ControlPlace(history, self._keys, lambda: api.application(OwnerAccess()))
        self._admin = AdminEndpoint(api, audit, lambda: self._changes.record.number)
        self._changes.participants += [self._admin, self._control]

    def _inspection(self) -> Inspection:
        return Inspection(
            self._segment, lambda: self._changes.running, lambda: self._crew.pids,
            lambda: self._slots.active, lambda: self._listeners.addresses, self._health.count,
        )  # fmt: skip

    def _use_history(self, history: History) -> None:
        if self._heir is not None:
            record = self._heir.left.record
            for one in self._heir.left.history:
                history.remember(one)
        else:
            self._candidate, record = begin_with(
                self._candidate, history, self._started, self._resumed
            )
        self._orders = Orders(
            self._segment,
            self._segment_file,
            self._slots,
            self._listeners,
            self._logs,
            self._keys,
            self._crew,
            lambda: self._changes.in_force,
            waits=self._heir is not None,
        )
        parts: list[Participant] = [
            self._slots,
            self._logs,
            self._listeners,
            self._orders,
            self._metrics,
        ]
        self._changes = Changes(self._candidate, record, history, self._segment, parts)
        self._probation = Probation(
            TrafficReader(self._segment, self._health.ready),
            self._changes.restore,
            self._show_status,
            lambda number: self._begin(self._changes.prove(number)),
        )
        self._changes.on_committed = self._on_committed
        self._changes.known_names = self._health.names
        self._upgrade = Upgrade(self, self._changes)
        if self._heir is not None:
            self._changes.source, self._changes.seen = self._heir.left.source, self._heir.left.seen

    async def _keep_start(self) -> None:
        """Put into the history what it started with, now that it serves."""
        try:
            await self._changes.keep_first(inherited=self._heir is not None)
        except (HistoryError, asyncio.CancelledError):
            await self._crew.stop()
            raise

    async def _end(self) -> bool:
        """Drain, unless a second signal comes."""
        milliseconds = self._configuration.performance.shutdown_drain_timeout_ms
        logger.info("draining for up to %.1f s; signal again to stop at once", milliseconds / 1000)
        self._upgrade.abort()
        if not self._crew.handed_over:
            self._service_manager.stopping("draining")
        self._changes.ending = True
        self._listeners.stop_accepting(handed_over=self._crew.handed_over)
        self._wake.clear()
        draining = asyncio.create_task(self._crew.drain(milliseconds / 1000))
        interrupted = asyncio.create_task(self._wake.wait())
        await asyncio.wait({draining, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            interrupted.cancel()
            return draining.result()
        logger.warning("stopping at once: what is in flight is cut")
        draining.cancel()
        await asyncio.wait({draining})
        await self._crew.stop()
        return False

    def _close(self) -> None:
        self._listeners.close()
        self._crew.close()
        os.close(self._segment_file)
        if hasattr(self, "_logs"):
            self._logs.close()

    # --- from one program to another ----------------------------------------------------------

    def inheritance(self) -> tuple[TakeOver, dict[str, int]]:
        """Return everything there is, and its descriptors by name.

        Raises:
            UpgradeError: It cannot be handed over now.
        """
        if reason := self._listeners.others():
            raise UpgradeError(reason)
        changes = self._changes
        listeners, sockets = self._listeners.inheritance()
        descriptors = {
            "segment": self._segment_file,
            **sockets,
            **self._crew.inboxes(),
            **self._metrics.descriptors,
            **(self._control.descriptors if self._control is not None else {}),
            **(self._admin.descriptors if self._admin is not None else {}),
        }
        if changes.history.lock is not None:
            descriptors["history"] = changes.history.lock
        take_over = TakeOver(
            changes.record,
            dict(changes.running.materials.files),
            changes.running.materials.authorities,
            changes.source,
            changes.seen,
            tuple(changes.history) if changes.history.directory is None else (),
            self._keys.current,
            self._slots.steering,
            listeners,
            tuple(descriptors),
            self._listeners.ended(),
        )
        return take_over, descriptors

    def may_hand_over(self) -> str:
        """Return why another program must not take over now; empty if it may."""
        if self._probation.is_open:
            return f"generation {self._changes.record.number} is on probation; wait for its end"
        if not self._crew.all_ready:
            return "a worker died meanwhile"
        return ""

    def keep(self, slots: Sequence[int], named: Mapping[str, int]) -> None:
        """Serve on, after the new program may have begun; its workers finish what they have."""
        self._slots.inherit(slots)
        try:
            self._listeners.adopt_sockets(named)
            self._crew.adopt(slots, named)
        finally:
            # Whatever becomes of its workers, clients are this program's.
            self._listeners.steer()

    async def hand_over(self, pid: int, slots: Sequence[int], ways: Mapping[int, int]) -> None:
        """Finish what there is; return when nothing new is taken any more."""
        self._service_manager.main_process(pid)
        self._service_manager.close()
        before = self._slots.steering
        leaving = (*before.active, *before.leaving)
        seconds = self._configuration.performance.shutdown_drain_timeout_ms / 1000
        steering = Steering(tuple(slots), leaving, before.table, before.at)
        try:
            await self._crew.hand_over(steering, ways, seconds)
        finally:
            if self._admin is not None:
                self._admin.leave()
            if self._control is not None:
                self._control.leave()
            self._metrics.leave()
            self._wake.set()

    async def _take_over(self, heir: Heir) -> None:
        """Serve in place of another program, as soon as it says so.

        Raises:
            TakeOverError: It says something else.
        """
        logger.info("taking over as process %d", os.getpid())
        handles = {**self._listeners.own_descriptors(), **self._crew.handles()}
        await heir.wait_for_begin(self._slots.active, handles)
        self._orders.waits = False
        self._slots.swapped()
        self._listeners.steer()
        self._crew.begin()
        await heir.wait_until_over()
        listening, lock = heir.take("control"), heir.descriptors.pop("lock", None)
        control = (listening, lock) if listening is not None and lock is not None else None
        await self._open_endpoints(heir.take("metrics"), control, heir.take("admin"))
        heir.close()

    # --- what workers say and ask -------------------------------------------------------------

    def _on_left(self, slot: int) -> None:
        """Give a slot free whose worker has finished."""
        self._slots.free(slot)
        self._listeners.left(slot)

    def _on_resolve(self, worker: WorkerProcess, question: Resolve) -> None:
        self._begin(self._answer(worker, question))

    def _on_addresses(self, host: str, port: int, addresses: tuple[str, ...]) -> None:
        self._crew.tell(Resolved(host, port, addresses, changed=True))

    async def _answer(self, worker: WorkerProcess, question: Resolve) -> None:
        worker.send(await self._names.ask(question.host, question.port))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is known ------------------------------------------------------------------------

    def _state(self) -> State:
        if self._phase is State.SERVING and not self._crew.any_alive:
            return State.NO_WORKER
        if self._phase is State.SERVING and not self._health.any_can_serve:
            return State.NO_BACKEND
        return self._phase

    @property
    def _status(self) -> str:
        """What it does, as one line."""
        number, workers = self._changes.record.number, len(self._slots.active)
        doing = f"serving generation {number} with {workers} workers"
        return f"{doing}, on probation" if self._probation.is_open else doing

    def _show_status(self) -> None:
        if self._phase is State.SERVING:
            self._service_manager.show(self._status)

    def _on_committed(self, commit: Committed) -> None:
        # First, so that it sees which backends could serve before.
        self._probation.committed(commit)
        self._follow()
        self._show_status()

    def _follow(self) -> None:
        """Have what looks at workers and backends go by what is in force."""
        running = self._changes.running
        self._watch.follow(running.configuration)
        self._health.follow(running.configuration, running.materials)

    def _facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell that no worker counts."""
        yield from build_facts(self._segment, self._started)
        yield from configuration_facts(self._segment, self._changes.running)
        yield from self._health.facts()
        yield from self._changes.counts.facts()
        yield history_fact(self._changes.history)
        if self._admin is not None:
            yield from self._admin.facts()
        yield from probation_facts(self._probation.is_open, self._probation.rollbacks)
        workers = self._crew.pids
        yield from worker_facts(self._segment, workers, self._crew.restarts)
        yield from self._watch.facts()
        yield from process_facts(
            {"supervisor": os.getpid()} | {f"worker-{slot}": pid for slot, pid in workers.items()}
        )

    def _process_facts(self) -> dict[str, Any]:
        """Return what commands show of this process."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "worker_restarts": self._crew.restarts,
        }

    # --- signals ------------------------------------------------------------------------------

    def _on_stop_signal(self, number: signal.Signals) -> None:
        logger.info("received %s", number.name)
        self._wake.set()

    def _on_reload_signal(self) -> None:
        logger.info("received SIGHUP")
        if self._phase is State.SERVING:
            # What starts has read the file just now, and what ends changes nothing.
            self._begin(self._reload())

    async def _reload(self) -> None:
        """Put in force what the file says now; if that cannot be, say why and go on."""
        self._service_manager.reloading()
        try:
            outcome = await self._changes.reload(Asked("SIGHUP"))
        except (ChangeError, ConfigurationError, HistoryError, MaterialError) as error:
            logger.error("not reloaded: %s", error)
        else:
            if not outcome.changed:
                logger.info("nothing changed: generation %d stays", outcome.record.number)
        finally:
            if self._phase is State.SERVING:
                self._service_manager.ready(self._status)

    def _reopen_logs(self) -> None:
        try:
            self._logs.reopen()
            if self._admin is not None:
                self._admin.reopen()
        except OSError as error:
            # The old files stay in use: a log in the wrong place beats none.
            logger.error("cannot reopen the logs: %s", error)
            return
        descriptors = self._logs.descriptors
        self._crew.tell(UseLogs(tuple(descriptors)), descriptors)
