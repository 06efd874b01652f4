"""Running the proxy as a service: the sockets, the files, the names, and the workers."""

import asyncio
import logging
import os
import resource
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from spooky._core import COMPILED
from spooky.config.schema import Configuration
from spooky.control.crew import Crew, StartError
from spooky.control.facts import build_facts, certificate_facts, process_facts, worker_facts
from spooky.control.logs import Logs
from spooky.control.names import Names
from spooky.control.sockets import ListenerSockets, open_listener
from spooky.control.worker_process import WorkerProcess
from spooky.edge.messages import Resolve, Start, UseKeys, UseLogs
from spooky.generation.certificates import ListenerTls, load_listener_tls
from spooky.generation.materials import Materials, read_materials
from spooky.observe import log
from spooky.observe.metrics import Fact
from spooky.observe.segment import create_segment
from spooky.protocol.quic.keys import SECRET_BYTES, Keys
from spooky.protocol.quic.steering import steering_table
from spooky.upstream.dial import system_resolver

if TYPE_CHECKING:
    from spooky.control.metrics_server import MetricsServer

logger = logging.getLogger(__name__)

STDERR: Final = 2

KEY_SECONDS: Final = 12 * 3600.0
"""How long a secret seals; it opens for as long again, so a ticket serves half a day or more."""

FIRST_GENERATION: Final = 1


class Supervisor:
    """Owns everything of one ``spooky serve`` that outlives a worker.

    Arguments:
        configuration: What to serve.
        announce: Called with the bound addresses once clients can connect.
    """

    def __init__(
        self,
        configuration: Configuration,
        announce: Callable[[list[tuple[str, int]]], None],
    ) -> None:
        self._configuration = configuration
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._slots = worker_count(configuration)
        self._table = steering_table(range(self._slots))
        self._keys = Keys.generate()
        self._names = Names(system_resolver(self._loop))
        self._segment, self._segment_file = create_segment(self._slots)
        self._started = time.time()
        self._tls: list[ListenerTls] = []
        self._metrics: MetricsServer | None = None
        self._listeners: list[ListenerSockets] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._materials: Materials
        self._logs: Logs
        self._log: log.DescriptorHandler
        self._crew: Crew

    async def run(self) -> bool:
        """Serve until told to stop by SIGTERM or SIGINT.

        The first signal drains, a second stops at once; SIGUSR1 reopens log files.

        Returns:
            Whether everything in flight finished.

        Raises:
            BindError: An address cannot be bound.
            MaterialError: A certificate or key cannot be used.
            StartError: The workers cannot serve.
        """
        self._open()
        try:
            if self._configuration.observability.metrics.enabled:
                await self._start_metrics()
            self._segment.commit(FIRST_GENERATION)
            await self._crew.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._on_stop_signal, number)
            self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
            rotation = self._loop.create_task(self._rotate_keys())
            addresses = [sockets.address for sockets in self._listeners]
            self._announce(addresses)
            logger.info("serving on %s with %d workers", _shown(addresses), self._slots)
            await self._wake.wait()
            rotation.cancel()
            return await self._end()
        finally:
            if self._metrics is not None:
                await self._metrics.close()
            self._close()

    # --- the beginning and the end ------------------------------------------------------------

    def _open(self) -> None:
        """Make everything that workers need."""
        configuration = self._configuration
        try:
            self._logs = Logs(configuration)
        except OSError as error:
            raise StartError(f"cannot open a log: {error}") from error
        settings = configuration.log
        self._log = log.configure(
            settings.level, settings.format == "json", self._logs.descriptors.get("log", STDERR)
        )
        _allow_many_files()
        self._materials = read_materials(configuration)
        self._tls = [
            load_listener_tls(listener, self._materials)
            for listener in configuration.active_listeners
        ]
        for listener in configuration.active_listeners:
            sockets = open_listener(listener, configuration.performance, self._slots)
            self._listeners.append(sockets)
            if self._slots > 1:
                sockets.steer(self._table)
        self._crew = Crew(self._slots, self._segment, self._make_start, self._on_resolve)

    async def _start_metrics(self) -> None:
        # Only who wants metrics waits for aiohttp.
        from spooky.control.metrics_server import MetricsServer

        settings = self._configuration.observability.metrics
        self._metrics = MetricsServer(settings, self._segment, self._facts)
        await self._metrics.start()

    async def _end(self) -> bool:
        """Drain, unless a second signal comes."""
        milliseconds = self._configuration.performance.shutdown_drain_timeout_ms
        logger.info("draining for up to %.1f s; signal again to stop at once", milliseconds / 1000)
        for sockets in self._listeners:
            # A connection that nobody will accept is better refused.
            sockets.tcp.close()
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
        for sockets in self._listeners:
            sockets.close()
        self._crew.close()
        os.close(self._segment_file)
        self._log.descriptor = STDERR
        self._logs.close()

    # --- what workers need --------------------------------------------------------------------

    def _make_start(self, slot: int, ways: dict[str, int]) -> tuple[Start, dict[str, int]]:
        descriptors = {"segment": self._segment_file, **self._logs.descriptors, **ways}
        for number, sockets in enumerate(self._listeners):
            descriptors[f"tcp:{number}"] = sockets.tcp.fileno()
            descriptors[f"udp:{number}"] = sockets.udp[slot].fileno()
        start = Start(
            slot,
            self._segment.generation,
            self._configuration,
            dict(self._materials.files),
            self._materials.authorities,
            self._keys,
            self._table,
            tuple(range(len(self._listeners))),
            tuple(descriptors),
        )
        return start, descriptors

    def _on_resolve(self, worker: WorkerProcess, question: Resolve) -> None:
        task = self._loop.create_task(self._answer(worker, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, worker: WorkerProcess, question: Resolve) -> None:
        worker.send(await self._names.ask(question.host, question.port))

    async def _rotate_keys(self) -> None:
        while True:
            await asyncio.sleep(KEY_SECONDS)
            self._keys = self._keys.rotated(secrets.token_bytes(SECRET_BYTES))
            self._crew.tell(UseKeys(self._keys))

    def _facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell that no worker counts."""
        yield from build_facts(self._segment, self._started)
        for listener, tls in zip(self._configuration.active_listeners, self._tls, strict=True):
            yield from certificate_facts(listener, tls)
        workers = self._crew.pids
        yield from worker_facts(self._segment, workers, self._crew.restarts)
        yield from process_facts(
            {"supervisor": os.getpid()} | {f"worker-{slot}": pid for slot, pid in workers.items()}
        )

    # --- signals ------------------------------------------------------------------------------

    def _on_stop_signal(self, number: signal.Signals) -> None:
        logger.info("received %s", number.name)
        self._wake.set()

    def _reopen_logs(self) -> None:
        try:
            self._logs.reopen()
        except OSError as error:
            # The old files stay in use: a log in the wrong place beats none.
            logger.error("cannot reopen the logs: %s", error)
            return
        descriptors = self._logs.descriptors
        self._log.descriptor = descriptors.get("log", STDERR)
        self._crew.tell(UseLogs(tuple(descriptors)), descriptors)


def worker_count(configuration: Configuration) -> int:
    """Return how many workers a configuration asks for on this machine.

    Raises:
        StartError: More than can be.
    """
    asked = configuration.performance.worker_threads
    if asked == "auto":
        return len(os.sched_getaffinity(0)) if COMPILED else 1
    if asked > 1 and not COMPILED:
        raise StartError(
            f"performance.worker_threads is {asked}, but without the compiled kernels there can be "
            "only 1 worker"
        )
    return asked


def _allow_many_files() -> None:
    """Raise the limit on open files as far as it goes; each TCP connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shown(addresses: list[tuple[str, int]]) -> str:
    return ", ".join(f"{host} port {port}" for host, port in addresses)
