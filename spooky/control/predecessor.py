"""Another Spooky with the same control socket that ends: a start waits until it has let go.

While it drains, the ports of its listeners, the history and the control socket are still its own.
Its workers' UDP sockets come first in the order by which the kernel tells slots apart, so that who
begins beside them gets no HTTP/3 clients, even where it could bind.
"""

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from spooky.control.slots import StartError
from spooky.control.state import State

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.1
"""How often it is looked whether it has ended."""

ANSWER_SECONDS: Final = 5.0
"""How long it may take to say what it does; else it is taken for one that does not drain."""

EXIT_SECONDS: Final = 5.0
"""How long its process may take to exit once it has no control socket any more."""

MARGIN_SECONDS: Final = 20.0
"""How much longer than it drains it may take: its workers may have to be killed, twice 10 s."""

_REQUEST: Final = b"GET /admin/runtime HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class _Known(msgspec.Struct):
    """As much of what it answers as counts here."""

    pid: int
    state: str


async def wait_for_end(path: Path, seconds: float, show: Callable[[str], None]) -> None:
    """Wait for the end of a Spooky that drains, if one answers on a control socket.

    Arguments:
        path: The control socket.
        seconds: How long it may drain.
        show: Has people see what is waited for.

    Raises:
        StartError: It takes too long.
    """
    pid = await _draining(path)
    if pid is None:
        return
    bound = seconds + MARGIN_SECONDS
    text = f"another Spooky drains, process {pid}: waiting for its end, for up to {bound:.0f} s"
    logger.warning("%s", text)
    show(text)
    process = _opened(pid)
    try:
        async with asyncio.timeout(bound):
            while await _draining(path) == pid:
                await asyncio.sleep(LOOK_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                while process is not None and not select.select([process], [], [], 0)[0]:
                    await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise StartError(
            f"another Spooky still drains, process {pid}, after {bound:.0f} s: wait for its end, "
            f"or cut what it still serves with `kill {pid}`"
        ) from error
    finally:
        if process is not None:
            os.close(process)
    logger.info("process %d has ended", pid)


def _opened(pid: int) -> int | None:
    """Return a descriptor of a process; ``None`` if it is not to be seen from here, or gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


async def _draining(path: Path) -> int | None:
    """Return the process of a Spooky that drains; ``None`` if none does there."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(_REQUEST)
                _, _, content = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
        known = msgspec.json.decode(content, type=_Known)
    except (OSError, TimeoutError, msgspec.MsgspecError):
        # Nobody, somebody whom we may not ask, or no Spooky: what they have is found when it is
        # bound.
        return None
    return known.pid if known.state == State.DRAINING else None
