"""What the service manager is told, by the protocol of sd_notify(3).

systemd gives a service a datagram socket and takes assignments there, one to a line: that it
serves, reloads or ends, and that it is alive. Without ``$NOTIFY_SOCKET`` nothing is said.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

logger = logging.getLogger(__name__)

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PROCESS_VARIABLE: Final = "WATCHDOG_PID"

VARIABLES: Final = (SOCKET_VARIABLE, WATCHDOG_VARIABLE, WATCHDOG_PROCESS_VARIABLE)
"""What the service manager says to its main process alone; others are not given them."""

LOOK_SECONDS: Final = 1.0
"""How soon it is looked again after nothing was alive: what is being replaced soon is."""

MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """Speaks to the service manager, if there is one; nothing that goes wrong there stops us.

    Arguments:
        environment: Where its socket and its watchdog are named.

    Attributes:
        watchdog_seconds: How often it wants to hear that we live: half of the time after which it
            gives a service up, as sd_watchdog_enabled(3) advises; ``None`` if it does not.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get(SOCKET_VARIABLE, ""))
        self._watching: asyncio.TimerHandle | None = None
        self._kept_silent = False
        self.watchdog_seconds = _watchdog_seconds(environment) if self._address else None

    @property
    def patience(self) -> float | None:
        """After how much silence it gives us up; seconds, ``None`` if it does not."""
        return None if self.watchdog_seconds is None else 2 * self.watchdog_seconds

    def ready(self, status: str) -> None:
        """Say that we serve, and with what; also the end of :meth:`reloading`."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """Say that a reload begins; :meth:`ready` says that it is over."""
        # Which of two reloads is meant is told by the time (Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str) -> None:
        """Say that we end."""
        self._tell("STOPPING=1", _status(status))

    def show(self, status: str) -> None:
        """Have ``systemctl status`` show a line."""
        self._tell(_status(status))

    def main_process(self, pid: int) -> None:
        """Name the process that is the service from now on; it is the one that is listened to.

        The successor's environment must not name us in ``$WATCHDOG_PID``, or it keeps silent.
        """
        self._tell(f"MAINPID={pid}")

    def watch(self, is_alive: Callable[[], bool]) -> None:
        """Say on the running event loop that we live, as often as wanted and as long as it is true.

        Arguments:
            is_alive: Whether we do, apart from the loop.
        """
        if self.watchdog_seconds is None:
            return
        seconds = self.watchdog_seconds
        if is_alive():
            self._tell("WATCHDOG=1")
            self._kept_silent = False
        else:
            seconds = min(seconds, LOOK_SECONDS)
            if not self._kept_silent:
                logger.error("the service manager is not told that we live: no worker does")
            self._kept_silent = True
        loop = asyncio.get_running_loop()
        self._watching = loop.call_later(seconds, self.watch, is_alive)

    def close(self) -> None:
        """Say no more that we live; idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            logger.warning("the service manager cannot be told %s: %s", assignments[0], error)


def _address(name: str) -> str:
    """Return the address of a socket: a path, or a name that no file has."""
    if name.startswith("@"):
        return "\0" + name[1:]
    if name and not name.startswith("/"):
        logger.warning("$%s is %r: neither a path nor an abstract name", SOCKET_VARIABLE, name)
        return ""
    return name


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    interval = environment.get(WATCHDOG_VARIABLE, "")
    process = environment.get(WATCHDOG_PROCESS_VARIABLE, str(os.getpid()))
    if not interval or process != str(os.getpid()):
        return None
    if not interval.isascii() or not interval.isdigit() or int(interval) == 0:
        logger.warning("$%s is %r, not a number of microseconds", WATCHDOG_VARIABLE, interval)
        return None
    return int(interval) / MICROSECONDS / 2


def _status(text: str) -> str:
    """Return a status as one line, whatever is in it."""
    return f"STATUS={' '.join(text.split())}"
