"""Embedding: the proxy inside somebody else's event loop."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spooky import config
from spooky.config.schema import Configuration
from spooky.control.facts import build_facts, certificate_facts, process_facts
from spooky.control.sockets import ListenerSockets, open_listener
from spooky.edge.worker import Worker, WorkerListener
from spooky.generation.certificates import ListenerTls, load_listener_tls
from spooky.generation.compile import Environment, compile_generation
from spooky.generation.generation import Generation
from spooky.generation.materials import read_materials
from spooky.observe import log
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters
from spooky.observe.metrics import Fact
from spooky.protocol.quic.keys import Keys
from spooky.runtime import Runtime
from spooky.upstream.application import Application
from spooky.upstream.dial import system_resolver
from spooky.upstream.lifespan import Lifespan

if TYPE_CHECKING:
    from spooky.control.metrics_server import MetricsServer


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
        if isinstance(configuration, Configuration):
            self.configuration = configuration
        elif isinstance(configuration, Mapping):
            self.configuration = config.from_mapping(configuration, apps=self._applications)
        else:
            self.configuration = config.load(Path(configuration), apps=self._applications)
        self.counters = Counters()
        self._lifespans = [Lifespan(application) for application in self._applications.values()]
        self._sockets: list[ListenerSockets] = []
        self._access_log: AccessLog | None = None
        self._access_log_file: int | None = None
        self._runtime: Runtime | None = None
        self._generation: Generation | None = None
        self._worker: Worker | None = None
        self._metrics: MetricsServer | None = None
        self._tls: list[ListenerTls] = []
        self._started = time.time()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Address and port of each listener, as bound."""
        return [sockets.address for sockets in self._sockets]

    @property
    def port(self) -> int:
        """The port of the first listener, as bound."""
        return self._sockets[0].address[1]

    @property
    def worker(self) -> Worker:
        """The worker, while the proxy runs.

        Raises:
            RuntimeError: It does not run.
        """
        if self._worker is None:
            raise RuntimeError("the proxy is not running; use `async with` or start()")
        return self._worker

    async def start(self) -> None:
        """Bind, start the applications, and serve.

        Raises:
            spooky.BindError: An address cannot be bound.
            spooky.MaterialError: A certificate or key cannot be used.
            spooky.CompileError: The configuration cannot be put in force.
            RuntimeError: An application failed to start.
        """
        configuration = self.configuration
        materials = read_materials(configuration)
        listeners = configuration.active_listeners
        self._tls = [load_listener_tls(listener, materials) for listener in listeners]
        runtime = Runtime(asyncio.get_running_loop())
        environment = Environment(
            runtime, self.counters, system_resolver(runtime.loop), self._applications
        )
        self._generation = compile_generation(configuration, materials, environment, number=1)
        try:
            self._open_access_log()
            for listener in listeners:
                self._sockets.append(open_listener(listener, configuration.performance))
            await self._start_metrics()
            for lifespan in self._lifespans:
                await lifespan.startup()
        except BaseException:
            await self._stop_metrics()
            self._release()
            raise
        self._runtime = runtime
        self._worker = Worker(
            runtime,
            self._generation,
            [
                WorkerListener(sockets.udp[0], sockets.tcp, identity)
                for sockets, identity in zip(self._sockets, self._tls, strict=True)
            ],
            self.counters,
            self._access_log,
            Keys.generate(),
        )

    async def drain(self) -> bool:
        """Stop accepting, finish what is in flight within ``shutdown_drain_timeout_ms``, and stop.

        Returns:
            Whether everything in flight finished.
        """
        milliseconds = self.configuration.performance.shutdown_drain_timeout_ms
        finished = await self.worker.drain(milliseconds / 1000)
        await self._stop()
        return finished

    async def close(self) -> None:
        """Stop at once; what is in flight is cut. Does nothing if the proxy does not run."""
        if self._worker is not None:
            await self._worker.close()
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
        self._worker = None
        for lifespan in self._lifespans:
            await lifespan.shutdown()
        await self._stop_metrics()
        self._release()
        if self._runtime is not None:
            await self._runtime.close()
            self._runtime = None

    async def _start_metrics(self) -> None:
        settings = self.configuration.observability.metrics
        if settings.enabled:
            # Only who wants metrics waits for aiohttp.
            from spooky.control.metrics_server import MetricsServer

            self.counters.segment.commit(1)
            self._metrics = MetricsServer(settings, self.counters.segment, self._facts)
            await self._metrics.start()

    async def _stop_metrics(self) -> None:
        if self._metrics is not None:
            await self._metrics.close()
            self._metrics = None

    def _facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell that the worker does not count."""
        yield from build_facts(self.counters.segment, self._started)
        for listener, tls in zip(self.configuration.active_listeners, self._tls, strict=True):
            yield from certificate_facts(listener, tls)
        yield from process_facts({"embedded": os.getpid()})

    def _release(self) -> None:
        """Give up the generation, the sockets and the access log."""
        if self._generation is not None:
            self._generation.release()
            self._generation = None
        for sockets in self._sockets:
            sockets.close()
        self._sockets.clear()
        if self._access_log is not None:
            self._access_log.flush()
            self._access_log = None
        if self._access_log_file is not None:
            os.close(self._access_log_file)
            self._access_log_file = None

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
