"""Running a supervisor from a command."""

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from spooky.cli.errors import CommandError

if TYPE_CHECKING:
    from spooky.control.candidate import Candidate
    from spooky.control.first_generation import Resumed

Announce = Callable[[list[tuple[str, int]]], None]
"""Called with the bound addresses once clients can connect."""


def serve_until_stopped(
    make: "Callable[[], tuple[Candidate, Resumed | None]]", announce: Announce
) -> bool:
    """Serve until a signal says to stop.

    Arguments:
        make: Gives what to serve, and which generation that is if it is resumed.
        announce: Called with the bound addresses once clients can connect.

    Returns:
        Whether everything in flight finished.

    Raises:
        CommandError: It could not start.
        ConfigurationError: The configuration has errors.
    """
    from spooky.control.control_socket import ControlSocketError
    from spooky.control.history import HistoryError
    from spooky.control.slots import StartError
    from spooky.control.sockets import BindError
    from spooky.control.supervisor import Supervisor
    from spooky.generation.materials import MaterialError

    async def serve(candidate: "Candidate", resumed: "Resumed | None") -> bool:
        starting = asyncio.current_task()
        assert starting is not None
        # Until the supervisor serves, and takes signals itself; SIGINT does so unasked.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, starting.cancel)
        return await Supervisor(candidate, announce, resumed=resumed).run()

    try:
        return _run(serve(*make()))
    except asyncio.CancelledError:
        # SIGTERM before it served: nobody has lost anything.
        return True
    except (BindError, ControlSocketError, HistoryError, MaterialError, StartError) as error:
        raise CommandError(str(error)) from error


def take_over(descriptor: int, announce: Announce) -> bool:
    """Serve in place of the program at the other end of a channel, as it does.

    Arguments:
        descriptor: Our end.
        announce: Called with the bound addresses once clients can connect.

    Returns:
        Whether everything in flight finished.

    Raises:
        CommandError: It could not.
    """
    from spooky.config import ConfigurationError
    from spooky.control.control_socket import ControlSocketError
    from spooky.control.heir import Heir
    from spooky.control.history import HistoryError
    from spooky.control.slots import StartError
    from spooky.control.sockets import BindError
    from spooky.control.supervisor import Supervisor
    from spooky.control.takeover import TakeOverError
    from spooky.generation.materials import MaterialError

    async def serve() -> bool:
        heir = Heir(socket.socket(fileno=descriptor))
        try:
            return await Supervisor(await heir.receive(), announce, heir).run()
        except ConfigurationError as error:
            text = "; ".join(f"{one.path}: {one.message}" for one in error.problems)
        except (
            BindError,
            ControlSocketError,
            HistoryError,
            MaterialError,
            StartError,
            TakeOverError,
        ) as error:
            text = str(error)
        heir.fail(text)
        raise CommandError(text)

    try:
        return _run(serve())
    except OSError as error:
        raise CommandError(f"cannot take over: {error}") from error


def _run(serving: Coroutine[Any, Any, bool]) -> bool:
    """Run a supervisor; what it plans and reads must not keep workers from their clients."""
    import uvloop

    from spooky.runtime.gentle_threads import gentle_threads

    async def gently() -> bool:
        asyncio.get_running_loop().set_default_executor(gentle_threads())
        return await serving

    return uvloop.run(gently())
