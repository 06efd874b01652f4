"""Running the proxy as a service: signals, logs, and an orderly end."""

import asyncio
import logging
import signal
from collections.abc import Callable

from spooky.config.schema import Configuration
from spooky.observe import log
from spooky.proxy import Proxy

logger = logging.getLogger(__name__)


class Supervisor:
    """Owns the proxy of one ``spooky serve``.

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
        self._wake = asyncio.Event()

    async def run(self) -> bool:
        """Serve until told to stop by SIGTERM or SIGINT.

        The first signal drains, a second stops at once; SIGUSR1 reopens log files.

        Returns:
            Whether everything in flight finished.
        """
        settings = self._configuration.log
        handler = log.configure(
            settings.level,
            settings.format == "json",
            settings.file.path if settings.file.enabled else None,
        )
        proxy = Proxy(self._configuration)
        await proxy.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._reopen(proxy, handler))
        self._announce(proxy.addresses)
        logger.info("serving on %s", _addresses(proxy.addresses))
        await self._wake.wait()
        return await self._end(proxy)

    async def _end(self, proxy: Proxy) -> bool:
        """Drain, unless a second signal comes."""
        milliseconds = self._configuration.performance.shutdown_drain_timeout_ms
        logger.info("draining for up to %.1f s; signal again to stop at once", milliseconds / 1000)
        self._wake.clear()
        draining = asyncio.create_task(proxy.drain())
        interrupted = asyncio.create_task(self._wake.wait())
        await asyncio.wait({draining, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if draining.done():
            interrupted.cancel()
            return draining.result()
        logger.warning("stopping at once: %d requests are cut", proxy.worker.service.active)
        draining.cancel()
        await asyncio.wait({draining})
        await proxy.close()
        return False

    def _on_stop_signal(self, number: signal.Signals) -> None:
        logger.info("received %s", number.name)
        self._wake.set()

    def _reopen(self, proxy: Proxy, handler: logging.Handler) -> None:
        try:
            proxy.reopen_logs()
            log.reopen(handler)
        except OSError as error:
            # The old files stay in use: a log in the wrong place beats none.
            logger.error("cannot reopen the logs: %s", error)


def _addresses(addresses: list[tuple[str, int]]) -> str:
    return ", ".join(f"{host} port {port}" for host, port in addresses)
