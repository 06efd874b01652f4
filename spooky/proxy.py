"""Embedding: the proxy inside somebody else's event loop."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from spooky import config
from spooky.config.schema import Configuration
from spooky.control.facts import (
    build_facts,
    certificate_facts,
    in_flight_facts,
    process_facts,
)
from spooky.control.health import Health
from spooky.control.own_names import OwnNames
from spooky.control.resources import ResourceWatch
from spooky.control.sockets import (
    BindError,
    ListenerSockets,
    bind_again,
    bind_listener,
    known_as,
    listen,
    numbers_at,
)
from spooky.edge.change import Change
from spooky.edge.listener import WorkerSockets
from spooky.edge.listener_numbers import ListenerIdentity, listener_identities, number_listeners
from spooky.edge.worker import Worker
from spooky.generation.compile import CompileError, Environment, compile_in_turns
from spooky.generation.materials import Materials, read_materials
from spooky.observe import log
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters
from spooky.observe.metrics import Fact
from spooky.protocol.quic.keys import Keys
from spooky.runtime import Runtime
from spooky.upstream.application import Application
from spooky.upstream.lifespan import Lifespan
from spooky.upstream.resolver import SystemResolver

if TYPE_CHECKING:
    from spooky.control.metrics_server import MetricsServer


FIRST_GENERATION: Final = 1

NOT_RUNNING: Final = "the proxy is not running; use `async with` or start()"

FIXED_SECTIONS: Final = ("access_log", "log", "observability")
"""What is only read at the start."""


class Proxy:
    """A proxy in this process, on the running event loop (asyncio's own or uvloop).

    ``async with spooky.Proxy(configuration) as proxy:`` serves until the block ends, then drains.

    Arguments:
        configuration: A mapping as the YAML file would have it, the path of such a file, or a
            loaded :class:`~spooky.config.schema.Configuration`.
        apps: Embedded applications by name: ASGI applications, or callables that take a
            :class:`~spooky.Request` and return a :class:`~spooky.Response`. A backend whose
            address is ``app:NAME`` is the application of that name.

    Raises:
        spooky.ConfigurationError: The configuration is wrong; it lists every problem.
    """

    def __init__(
        self,
        configuration: Configuration | Mapping[str, Any] | str | os.PathLike[str],
        *,
        apps: Mapping[str, Application] | None = None,
    ) -> None:
        self._applications = dict(apps or {})
        self.configuration = self._load(configuration)
        self.counters = Counters()
        self._lifespans = [Lifespan(application) for application in self._applications.values()]
        # By number, in the order of the configuration.
        self._sockets: dict[int, ListenerSockets] = {}
        self._numbers: dict[ListenerIdentity, int] = {}
        # Of removed listeners, which the worker closes when they have drained.
        self._removed: dict[int, ListenerSockets] = {}
        self._changing = asyncio.Lock()
        self._ending = asyncio.Lock()
        self._access_log: AccessLog | None = None
        self._access_log_file: int | None = None
        # There from the beginning of a start to the end of the stop.
        self._runtime: Runtime | None = None
        self._worker: Worker | None = None
        self._metrics: MetricsServer | None = None
        self._health: Health | None = None
        self._names: OwnNames | None = None
        self._resources: ResourceWatch | None = None
        self._started = time.time()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Address and port of each listener, as bound."""
        return [sockets.address for sockets in self._sockets.values()]

    @property
    def port(self) -> int:
        """The port of the first listener, as bound.

        Raises:
            RuntimeError: It does not run.
        """
        if not self._sockets:
            raise RuntimeError(NOT_RUNNING)
        return self.addresses[0][1]

    @property
    def worker(self) -> Worker:
        """The worker, while the proxy runs.

        Raises:
            RuntimeError: It does not run.
        """
        if self._worker is None:
            raise RuntimeError(NOT_RUNNING)
        return self._worker

    async def start(self) -> None:
        """Bind, start the applications, and serve; if that fails or is cancelled, nothing is left.

        Raises:
            spooky.BindError: An address cannot be bound.
            spooky.MaterialError: A certificate or key cannot be used.
            spooky.CompileError: The configuration cannot be put in force.
            OSError: The access log cannot be opened.
            RuntimeError: It runs already, or an application failed to start.
        """
        if self._runtime is not None:
            raise RuntimeError("the proxy runs already, or is being started or stopped")
        runtime = self._runtime = Runtime(asyncio.get_running_loop())
        try:
            await self._start(runtime)
        except BaseException:
            await self.close()
            await self._stop()
            raise

    async def _start(self, runtime: Runtime) -> None:
        configuration = self.configuration
        materials = read_materials(configuration)
        resolve = SystemResolver(runtime.loop)
        names = self._names = OwnNames(runtime, resolve)
        environment = Environment(runtime, self.counters, names.resolve, self._applications)
        generation = await compile_in_turns(configuration, materials, environment, FIRST_GENERATION)
        try:
            self._open_access_log()
            numbers = number_listeners(configuration.active_listeners, {}, ())
            self._sockets = self._bind(configuration, numbers, {})
            for sockets in self._sockets.values():
                listen(sockets)
            self._numbers = numbers
            self.counters.segment.commit(FIRST_GENERATION)
            await self._start_metrics()
            for lifespan in self._lifespans:
                await lifespan.startup()
            self._worker = Worker(
                runtime,
                environment,
                self._change(FIRST_GENERATION, configuration, materials, numbers, self._sockets),
                generation,
                self._access_log,
                Keys.generate(),
            )
        except BaseException:
            generation.release(0.0)
            raise

        def follow(host: str, port: int, addresses: tuple[str, ...]) -> None:
            names.changed(host, port, addresses)
            environment.use_addresses(host, port, addresses)

        self._health = Health(runtime, self.counters.segment, resolve, follow)
        self._health.follow(configuration, materials)
        self._resources = ResourceWatch(runtime, self.counters.segment, lambda: {0: os.getpid()})
        self._resources.follow(configuration)

    async def apply(
        self, configuration: Configuration | Mapping[str, Any] | str | os.PathLike[str]
    ) -> None:
        """Put another configuration in force, for every request whose head arrives from then on.

        It is prepared first, without effect; if anything fails, what runs is untouched.
        Connections, pools, balancing state and counters of what did not change are kept, requests
        under way finish as they began, and those on removed listeners and backends have the new
        ``shutdown_drain_timeout_ms`` for that. The applications stay those of the beginning.

        Arguments:
            configuration: As for :class:`Proxy`.

        Raises:
            spooky.ConfigurationError: The configuration is wrong; it lists every problem.
            spooky.BindError: An address cannot be bound.
            spooky.MaterialError: A certificate or key cannot be used.
            spooky.CompileError: The configuration cannot be put in force, or changes what is only
                read at the start.
            RuntimeError: The proxy does not run.
        """
        loaded = self._load(configuration)
        for section in FIXED_SECTIONS:
            if getattr(loaded, section) != getattr(self.configuration, section):
                raise CompileError(f"{section} is read at the start and cannot be changed later")
        async with self._changing:
            await self._apply(self.worker, loaded)

    async def _apply(self, worker: Worker, configuration: Configuration) -> None:
        number = worker.service.generation.number + 1
        materials = read_materials(configuration)
        removed = {number: self._removed[number] for number in worker.removed}
        wanted = listener_identities(configuration.active_listeners)
        in_force = known_as(wanted, self._numbers, self._sockets)
        back = numbers_at(set(wanted) - in_force.keys(), removed)
        try:
            numbers = number_listeners(configuration.active_listeners, in_force | back, removed)
        except ValueError as error:
            raise CompileError(str(error)) from error
        try:
            opened = self._bind(configuration, numbers, removed)
            await worker.prepare(self._change(number, configuration, materials, numbers, opened))
            for sockets in opened.values():
                listen(sockets)
        except BaseException:
            worker.discard()
            for sockets in self._sockets.values():
                sockets.share_port(False)
            raise
        self.counters.segment.commit(number)
        worker.look()
        if self._names is not None:
            self._names.follow(configuration)
        if self._health is not None:
            self._health.follow(configuration, materials)
        if self._resources is not None:
            self._resources.follow(configuration)
        self.configuration = configuration
        self._numbers = numbers
        for listener in opened.keys() & removed.keys():
            if removed[listener].udp[0].fileno() >= 0:
                # The worker goes on with the sockets that it has; else it ended meanwhile.
                opened[listener].udp = removed[listener].udp
        every = removed | self._sockets | opened
        self._sockets = {listener: every.pop(listener) for listener in numbers.values()}
        self._removed = every

    async def drain(self) -> bool:
        """Stop accepting, finish what is in flight within ``shutdown_drain_timeout_ms``, and stop.

        Cancelled, or while :meth:`close` is called, it stops at once.

        Returns:
            Whether everything in flight finished.

        Raises:
            RuntimeError: It does not run.
        """
        milliseconds = self.configuration.performance.shutdown_drain_timeout_ms
        try:
            finished = await self.worker.drain(milliseconds / 1000)
        except asyncio.CancelledError:
            await self.close()
            raise
        await self._stop()
        return finished

    async def close(self) -> None:
        """Stop at once; what is in flight is cut. Does nothing if the proxy does not run.

        While it is stopped already, this waits until it is.
        """
        if self._worker is not None:
            await self._worker.close()
        elif not self._ending.locked():
            return
        await self._stop()

    def reopen_logs(self) -> None:
        """Open the access log's file anew, after it was rotated."""
        if self._access_log is not None and self.configuration.access_log.path is not None:
            old = self._access_log_file
            self._access_log_file = log.open_file(self.configuration.access_log.path)
            self._access_log.reopen(self._access_log_file)
            if old is not None:
                os.close(old)

    async def __aenter__(self) -> "Proxy":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._worker is not None:
            await self.drain()
        else:
            await self.close()

    async def _stop(self) -> None:
        # Whoever closes while another drains waits here for the end that both want.
        runtime = self._runtime
        async with self._ending:
            if runtime is None or self._runtime is not runtime:
                # It has ended, and may have been started again since.
                return
            self._worker = None
            if self._health is not None:
                self._health.close()
                self._health = None
            if self._resources is not None:
                self._resources.close()
                self._resources = None
            async with contextlib.AsyncExitStack() as rest:
                # The last one first, and each, even where this is cancelled before or meanwhile.
                rest.push_async_callback(self._close_runtime, runtime)
                rest.callback(self._release)
                rest.push_async_callback(self._stop_metrics)
                for lifespan in reversed(self._lifespans):
                    rest.push_async_callback(lifespan.abandon)
                for lifespan in self._lifespans:
                    await lifespan.shutdown()

    async def _close_runtime(self, runtime: Runtime) -> None:
        try:
            await runtime.close()
        finally:
            # Else nobody could start it again.
            self._runtime = None

    async def _start_metrics(self) -> None:
        settings = self.configuration.observability.metrics
        if settings.enabled:
            # Only who wants metrics waits for aiohttp.
            from spooky.control.metrics_server import MetricsServer

            self._metrics = MetricsServer(settings, self.counters.segment, self._facts)
            await self._metrics.start()

    async def _stop_metrics(self) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            await metrics.close()

    def _facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell that the worker does not count."""
        yield from build_facts(self.counters.segment, self._started)
        yield from process_facts({"embedded": os.getpid()})
        yield from in_flight_facts(self.counters.segment, self.configuration)
        if self._worker is None:
            return
        if self._health is not None:
            yield from self._health.facts()
        if self._resources is not None:
            yield from self._resources.facts()
        listener_tls = self._worker.service.generation.listener_tls
        for listener, tls in zip(self.configuration.active_listeners, listener_tls, strict=True):
            yield from certificate_facts(listener, tls)

    def _release(self) -> None:
        """Give up the sockets and the access log."""
        for sockets in self._sockets.values():
            sockets.close()
        self._sockets.clear()
        self._removed.clear()
        if self._access_log is not None:
            self._access_log.flush()
            self._access_log = None
        if self._access_log_file is not None:
            os.close(self._access_log_file)
            self._access_log_file = None

    def _load(
        self, configuration: Configuration | Mapping[str, Any] | str | os.PathLike[str]
    ) -> Configuration:
        if isinstance(configuration, Configuration):
            return configuration
        if isinstance(configuration, Mapping):
            return config.from_mapping(configuration, apps=self._applications)
        return config.load(Path(configuration), apps=self._applications)

    def _bind(
        self,
        configuration: Configuration,
        numbers: Mapping[ListenerIdentity, int],
        removed: Mapping[int, ListenerSockets],
    ) -> dict[int, ListenerSockets]:
        """Bind the listeners that are not there yet, or drain; none if one cannot be."""
        opened: dict[int, ListenerSockets] = {}
        stay, performance = set(numbers.values()), configuration.performance
        leaving = [one for number, one in self._sockets.items() if number not in stay]
        try:
            for listener, number in zip(
                configuration.active_listeners, numbers.values(), strict=True
            ):
                if number in self._sockets:
                    continue
                place = listener.address, listener.port
                beside = next((one for one in leaving if one.overlaps(*place)), None)
                drains = [one for one in removed.values() if one.overlaps(*place)]
                for one in drains:
                    one.share_port(True)
                if number in removed:
                    opened[number] = bind_again(removed[number], performance, beside=beside)
                else:
                    opened[number] = bind_listener(
                        listener, performance, beside=beside, after=bool(drains)
                    )
        except BindError:
            for sockets in opened.values():
                sockets.close()
            raise
        return opened

    def _change(
        self,
        number: int,
        configuration: Configuration,
        materials: Materials,
        numbers: Mapping[ListenerIdentity, int],
        opened: Mapping[int, ListenerSockets],
    ) -> Change:
        return Change(
            number,
            configuration,
            materials,
            tuple(numbers.values()),
            {
                listener: WorkerSockets(sockets.udp[0], sockets.tcp)
                for listener, sockets in opened.items()
            },
            configuration.performance.shutdown_drain_timeout_ms / 1000,
        )

    def _open_access_log(self) -> None:
        settings = self.configuration.access_log
        if not settings.enabled:
            return
        if settings.path is not None:
            self._access_log_file = log.open_file(settings.path)
            descriptor = self._access_log_file
        else:
            descriptor = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        self._access_log = AccessLog(descriptor, settings.format == "json")
