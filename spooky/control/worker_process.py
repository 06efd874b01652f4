"""One worker process, as the supervisor sees it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from spooky.control import service_manager
from spooky.edge import messages
from spooky.edge.messages import STACK_SIGNAL, MessageError, Resolved, ToSupervisor, ToWorker
from spooky.runtime.channel import Channel, ChannelFullError

logger = logging.getLogger(__name__)

MODULE: Final = "spooky.edge.process"

STACKS_MAX_BYTES: Final = 65_536
"""How much of what a worker wrote of its stacks is read at once."""


class WorkerProcess:
    """A fresh interpreter that runs a worker; started at once.

    Arguments:
        slot: The worker's slot.
        on_message: Takes what the worker says.
        on_exit: Called when the process is gone.

    Raises:
        OSError: It cannot be started.

    Attributes:
        slot: The worker's slot.
        ready: Whether it serves.
        leaves: Whether it was told to finish what it has.
        draining: Whether it does so.
        prepared: Number of the last generation that it prepared.
        cut: Requests it had to cut when it ended; ``None`` if it did not say.
        failure: Why it cannot serve, if it said so.
        started: When it was started; seconds on the loop's clock.
    """

    def __init__(
        self,
        slot: int,
        on_message: Callable[["WorkerProcess", ToSupervisor], None],
        on_exit: Callable[["WorkerProcess"], None],
    ) -> None:
        self.slot = slot
        self.ready = False
        self.leaves = False
        self.draining = False
        self.prepared: int | None = None
        self.cut: int | None = None
        self.failure = ""
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_exit = on_exit
        self.started = self._loop.time()
        # A file and not a pipe: who crashes must not wait for us to read.
        self._stacks = os.memfd_create("spooky-stacks")
        self._stacks_read = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = _start(theirs.fileno(), self._stacks)
            except OSError:
                os.close(self._stacks)
                ours.close()
                raise
        try:
            self._exit = os.pidfd_open(self._process.pid)
        except OSError:
            # Nobody would see it end.
            os.close(self._stacks)
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        self._channel = Channel(ours, self._on_data, self._on_silence)
        self._loop.add_reader(self._exit, self._on_exited)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def exit_text(self) -> str:
        """How the process ended, for people."""
        code = self._process.returncode
        if code is None:
            return "still runs"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def send(self, message: ToWorker, descriptors: Mapping[str, int] | None = None) -> None:
        """Tell the worker something; one that does not listen any more is killed.

        What a name resolves to is left out rather: a worker that misses it asks again.

        Arguments:
            descriptors: In the order in which the message names them.
        """
        try:
            self._channel.send(messages.encode(message), list((descriptors or {}).values()))
        except ChannelFullError:
            if isinstance(message, Resolved):
                logger.warning("worker %d missed the addresses of %s", self.slot, message.host)
                return
            logger.error("worker %d does not read what it is told; killing it", self.slot)
            self.kill()

    def kill(self) -> None:
        """End the process at once; if that is not ours to do, by closing its channel."""
        try:
            self._process.kill()
        except PermissionError:
            logger.error(
                "may not kill worker %d (process %d), of another user: closing its channel, which "
                "ends it unless it hangs; CAP_KILL is missing", self.slot, self.pid,
            )  # fmt: skip
            self._channel.close()

    def ask_for_stack(self) -> None:
        """Have the worker write its stack, which :meth:`read_stacks` then gives."""
        try:
            self._process.send_signal(STACK_SIGNAL)
        except PermissionError:
            logger.error("may not ask worker %d for its stack: CAP_KILL is missing", self.slot)

    def read_stacks(self) -> str:
        """Return what the worker wrote of its stacks since the last call: asked, or crashing."""
        if self._stacks < 0:
            return ""
        data = os.pread(self._stacks, STACKS_MAX_BYTES, self._stacks_read)
        self._stacks_read += len(data)
        return data.decode(errors="replace").rstrip()

    def _on_data(self, data: bytes, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            # Workers have nothing to pass.
            os.close(descriptor)
        try:
            message = messages.decode_for_supervisor(data)
        except MessageError as error:
            logger.error("cannot understand worker %d: %s; killing it", self.slot, error)
            self.kill()
            return
        self._on_message(self, message)

    def _on_silence(self) -> None:
        """Wait for the exit, which comes soon after the channel's end."""

    def _on_exited(self) -> None:
        self._loop.remove_reader(self._exit)
        os.close(self._exit)
        self._process.wait()
        # What it said last may still be unread.
        self._channel.read_rest()
        self._channel.close()
        stacks = self.read_stacks()
        if stacks:
            logger.error("worker %d (process %d) ended at:\n%s", self.slot, self.pid, stacks)
        os.close(self._stacks)
        self._stacks = -1
        self._on_exit(self)


def _start(channel: int, stacks: int) -> subprocess.Popen[bytes]:
    # The same import path as ours, and nothing that the directory or a user site adds.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for variable in service_manager.VARIABLES:
        environment.pop(variable, None)
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", MODULE, str(channel), str(stacks)],
        stdin=subprocess.DEVNULL,
        pass_fds=[channel, stacks],
        env=environment,
        # A terminal's signals are the supervisor's.
        process_group=0,
    )
