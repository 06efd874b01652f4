"""A worker's control agent: does what the supervisor says, and drains if there is none left."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Final

from spooky.config.schema import Configuration
from spooky.config.security import Security, UnknownNameError
from spooky.config.watchdog import BEAT_MS
from spooky.edge import messages
from spooky.edge.change import Change
from spooky.edge.collector import pace
from spooky.edge.handover import Handover
from spooky.edge.listener import WorkerSockets
from spooky.edge.messages import (
    Begin,
    Discard,
    Drain,
    Drained,
    Draining,
    Failed,
    MessageError,
    Prepare,
    Prepared,
    PrepareFailed,
    Ready,
    Resolved,
    Start,
    Steer,
    Stop,
    ToSupervisor,
    UseKeys,
    UseLogs,
)
from spooky.edge.names import AskedNames
from spooky.edge.reduced import ReductionError, restoring
from spooky.edge.worker import Worker
from spooky.generation.compile import CompileError, Environment, compile_generation
from spooky.generation.materials import MaterialError, Materials
from spooky.observe import log
from spooky.observe.access_log import AccessLog
from spooky.observe.counters import Counters
from spooky.observe.segment import open_segment
from spooky.runtime import Runtime
from spooky.runtime.channel import Channel, ChannelFullError
from spooky.runtime.in_turns import in_turns

logger = logging.getLogger(__name__)

STDERR: Final = 2

BEHIND_SECONDS: Final = 1.0
"""How long a worker without the generation in force finishes what it has; its slot waits for a
successor."""

BEAT_SECONDS: Final = BEAT_MS / 1000
"""How often a worker says that its loop turns."""


class Agent:
    """Runs one worker for a supervisor.

    Arguments:
        control: Our end of the control channel.
        confine: Gives up what the process does not need, before it makes anything.
    """

    def __init__(
        self, control: socket.socket, confine: Callable[[Security], None] = lambda _: None
    ) -> None:
        self._confine = confine
        self._loop = asyncio.get_running_loop()
        self._runtime = Runtime(self._loop)
        self._names = AskedNames(self._send, self._runtime.now)
        self._channel = Channel(control, self._on_message, self._on_supervisor_gone)
        self._configuration: Configuration | None = None
        self._worker: Worker | None = None
        self._access_log: AccessLog | None = None
        self._log: log.DescriptorHandler | None = None
        self._open_logs: dict[str, int] = {}
        self._preparing: asyncio.Task[None] | None = None
        self._preparing_number = 0
        self._draining: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._failed = False

    async def run(self) -> bool:
        """Serve until told to stop, or until the supervisor is gone.

        Returns:
            Whether the worker could serve.
        """
        await self._over.wait()
        await self._runtime.close()
        if self._access_log is not None:
            self._access_log.flush()
        self._channel.close()
        return not self._failed

    def drain(self, seconds: float, *, replaced: bool = False) -> None:
        """Finish what is in flight within so many seconds, and end.

        Arguments:
            replaced: Whether others serve in its place.
        """
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(seconds, replaced))
        elif self._worker is not None:
            self._worker.hasten(seconds, replaced=replaced)

    def drain_as_configured(self) -> None:
        """Finish what is in flight within the time the configuration gives, and end."""
        seconds = 0.0
        if self._configuration is not None:
            seconds = self._configuration.performance.shutdown_drain_timeout_ms / 1000
        self.drain(seconds)

    # --- messages -----------------------------------------------------------------------------

    def _on_message(self, data: bytes, descriptors: list[int]) -> None:
        try:
            message = messages.decode_for_worker(data)
        except MessageError as error:
            self._fail(f"cannot understand the supervisor: {error}")
            return
        match message:
            case Start():
                self._start(message, descriptors)
            case Prepare():
                self._prepare(message, descriptors)
            case Discard(generation):
                self._discard(generation)
            case Resolved():
                self._names.answered(message)
                if message.changed and self._worker is not None:
                    self._worker.use_addresses(message.host, message.port, message.addresses)
            case UseLogs(names):
                self._use_logs(dict(zip(names, descriptors, strict=True)))
            case Drain(seconds, replaced):
                self.drain(seconds, replaced=replaced)
            case Stop():
                self._stop()
            case Begin() | Steer() | UseKeys():
                if self._worker is not None:
                    self._change(self._worker, message, descriptors)

    def _change(
        self, worker: Worker, message: Begin | Steer | UseKeys, descriptors: list[int]
    ) -> None:
        match message:
            case Begin():
                self._begin(worker)
            case Steer(steering, names):
                worker.steer(steering, _ways_in(dict(zip(names, descriptors, strict=True))))
            case UseKeys(keys):
                worker.use_keys(keys)

    def _send(self, message: ToSupervisor) -> None:
        try:
            self._channel.send(messages.encode(message))
        except ChannelFullError:
            logger.error("the supervisor reads nothing; it missed %s", type(message).__name__)

    def _on_supervisor_gone(self) -> None:
        logger.error("the supervisor is gone; draining")
        self.drain_as_configured()

    # --- the beginning ------------------------------------------------------------------------

    def _start(self, start: Start, descriptors: list[int]) -> None:
        passed = list(zip(start.descriptors, descriptors, strict=True))
        named = dict(passed)
        self._configuration = start.configuration
        self._log_as(start.configuration, _logs_in(named))
        try:
            self._confine(start.configuration.security)
            self._worker = self._make_worker(start, named)
        except (CompileError, MaterialError, UnknownNameError, OSError) as error:
            self._fail(str(error))
            return
        pace()
        self._beat()
        self._send(Ready())

    def _make_worker(self, start: Start, named: dict[str, int]) -> Worker:
        segment = open_segment(named["segment"])
        os.close(named["segment"])
        segment.use_slot(start.slot)
        # What a worker before this had views of stays as it is, such as the health of backends.
        left = segment.references(start.slot)
        counters = Counters(segment, start.slot)
        environment = Environment(self._runtime, counters, self._names.resolve, {}, seed=start.slot)
        change = _change_of(start, named, start.configuration)
        generation = compile_generation(
            change.configuration, change.materials, environment, change.number
        )
        inbox = socket.socket(fileno=named["inbox"])
        handover = Handover(self._runtime, inbox, start.steering, counters)
        handover.steer(start.steering, _ways_in(named))
        worker = Worker(
            self._runtime,
            environment,
            change,
            generation,
            self._access_log,
            start.keys,
            start.slot,
            handover,
            self._on_switched,
            self._on_behind,
            start.waits,
        )
        segment.give_up(start.slot, left)
        return worker

    def _begin(self, worker: Worker) -> None:
        try:
            worker.begin()
        except OSError as error:
            self._fail(str(error))

    # --- changes ------------------------------------------------------------------------------

    def _prepare(self, message: Prepare, descriptors: list[int]) -> None:
        """Prepare a change in a task of its own; one under way gives up."""
        named = dict(zip(message.descriptors, descriptors, strict=True))
        change = _change_of(message, named, message.configuration)
        if self._worker is None:
            change.close()
            return
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = self._loop.create_task(
            self._prepare_change(self._worker, message, change)
        )
        self._preparing_number = change.number

        def close_if_cancelled(task: asyncio.Task[None]) -> None:
            # One that is cancelled before its first turn closes nothing itself.
            if task.cancelled():
                change.close()

        self._preparing.add_done_callback(close_if_cancelled)

    async def _prepare_change(self, worker: Worker, message: Prepare, change: Change) -> None:
        try:
            await worker.prepare(await self._whole_change(worker, message, change))
        except (CompileError, MaterialError, OSError, ValueError) as error:
            logger.error("generation %d cannot be prepared: %s", change.number, error)
            self._send(PrepareFailed(change.number, str(error)[: messages.TEXT_MAX]))
        except Exception as error:
            # A defect, of ours or of the supervisor: it waits for an answer all the same.
            logger.exception("generation %d cannot be prepared", change.number)
            self._send(PrepareFailed(change.number, repr(error)[: messages.TEXT_MAX]))
        else:
            self._send(Prepared(change.number))

    async def _whole_change(self, worker: Worker, message: Prepare, change: Change) -> Change:
        """Return a change with the whole configuration that its message means."""
        try:
            whole = await in_turns(_whole(message, worker), self._runtime)
        except BaseException:
            change.close()
            raise
        return replace(change, configuration=whole)

    def _discard(self, generation: int) -> None:
        if self._preparing is not None and self._preparing_number == generation:
            self._preparing.cancel()
            self._preparing = None
        if self._worker is not None:
            self._worker.discard(generation)

    def _on_switched(self, change: Change) -> None:
        before, now = self._configuration, change.configuration
        self._configuration = now
        self._names.follow(now)
        if before is None or (before.log, before.access_log) != (now.log, now.access_log):
            self._log_as(now, change.logs)
            if self._worker is not None:
                self._worker.service.access_log = self._access_log
        logger.info("generation %d is in force", change.number)

    def _on_behind(self, number: int) -> None:
        """Exit, to be replaced by a worker that starts with what is in force."""
        text = f"generation {number} is in force, and this worker does not have it"
        logger.error("%s; it ends, to be replaced", text)
        self._failed = True
        self._send(Failed(text))
        self.drain(BEHIND_SECONDS)

    def _beat(self) -> None:
        if self._worker is not None:
            self._worker.beat()
            self._runtime.schedule(self._runtime.now() + BEAT_SECONDS, self._beat)

    # --- the end ------------------------------------------------------------------------------

    def _fail(self, text: str) -> None:
        logger.error("this worker cannot serve: %s", text)
        self._failed = True
        self._send(Failed(text[: messages.TEXT_MAX]))
        self._over.set()

    def _stop(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
        self._draining = self._loop.create_task(self._cut())

    async def _drain(self, seconds: float, replaced: bool) -> None:
        if self._worker is not None:
            self._worker.stay()
            self._send(Draining())
            await self._worker.drain(seconds, replaced=replaced)
            self._send(Drained(self._worker.cut))
        self._over.set()

    async def _cut(self) -> None:
        if self._worker is not None:
            cut = self._worker.service.active
            await self._worker.close()
            self._send(Drained(cut))
        self._over.set()

    # --- logs ---------------------------------------------------------------------------------

    def _log_as(self, configuration: Configuration, descriptors: Mapping[str, int]) -> None:
        """Log as a configuration says, to files that are ours from now on."""
        settings, access_log = configuration.log, configuration.access_log
        self._log = log.configure(
            settings.level, settings.format == "json", descriptors.get("log", STDERR)
        )
        if self._access_log is not None:
            self._access_log.flush()
        self._access_log = None
        if access_log.enabled:
            self._access_log = AccessLog(
                descriptors.get("access_log", STDERR), access_log.format == "json"
            )
        for descriptor in self._open_logs.values():
            os.close(descriptor)
        self._open_logs = dict(descriptors)

    def _use_logs(self, descriptors: dict[str, int]) -> None:
        """Go on in other log files; the old ones are ours to close."""
        if self._log is not None and "log" in descriptors:
            self._log.descriptor = descriptors["log"]
        if self._access_log is not None and "access_log" in descriptors:
            self._access_log.reopen(descriptors["access_log"])
        for name, descriptor in descriptors.items():
            old = self._open_logs.get(name)
            self._open_logs[name] = descriptor
            if old is not None:
                os.close(old)


def _whole(message: Prepare, worker: Worker) -> Generator[None, None, Configuration]:
    """Return the whole configuration that a message means, in steps that are short each.

    Raises:
        ReductionError: It is told in terms of a generation that this worker does not have.
    """
    if message.base is None:
        return message.configuration
    worker.look()
    known = worker.service.generation
    if known.number != message.base.generation:
        raise ReductionError(
            f"it has generation {known.number}, and was told what differs from "
            f"{message.base.generation}"
        )
    return (yield from restoring(message.configuration, message.base, known.configuration))


def _change_of(
    message: Start | Prepare, named: dict[str, int], configuration: Configuration
) -> Change:
    """Return what a message puts in force, with the sockets that came with it."""
    numbers = [int(name.removeprefix("udp:")) for name in named if name.startswith("udp:")]
    sockets = {
        number: WorkerSockets(
            socket.socket(fileno=named[f"udp:{number}"]),
            socket.socket(fileno=named[f"tcp:{number}"]),
        )
        for number in numbers
    }
    return Change(
        message.generation,
        configuration,
        Materials(message.files, message.authorities),
        message.listeners,
        sockets,
        message.drain_seconds if isinstance(message, Prepare) else 0.0,
        _logs_in(named) if isinstance(message, Prepare) else {},
    )


def _ways_in(named: Mapping[str, int]) -> dict[int, socket.socket]:
    """Return the ways to the inboxes of other slots among what came with a message."""
    return {
        int(name.removeprefix("way:")): socket.socket(fileno=descriptor)
        for name, descriptor in named.items()
        if name.startswith("way:")
    }


def _logs_in(named: Mapping[str, int]) -> dict[str, int]:
    """Return the descriptors of log files among those that came with a message."""
    return {name: named[name] for name in ("log", "access_log") if name in named}
