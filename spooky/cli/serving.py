"""Running a supervisor from a command."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from spooky.cli.errors import CommandError

if TYPE_CHECKING:
    from spooky.control.candidate import Candidate

Announce = Callable[[list[tuple[str, int]]], None]
"""Called with the bound addresses once clients can connect."""


def serve_until_stopped(make: "Callable[[], Candidate]", announce: Announce) -> bool:
    """Serve until a signal says to stop.

    Arguments:
        make: Gives what to serve.
        announce: Called with the bound addresses once clients can connect.

    Returns:
        Whether everything in flight finished.

    Raises:
        CommandError: It could not start.
        ConfigurationError: The configuration has errors.
    """
    import uvloop

    from spooky.control.control_socket import ControlSocketError
    from spooky.control.history import HistoryError
    from spooky.control.slots import StartError
    from spooky.control.sockets import BindError
    from spooky.control.supervisor import Supervisor
    from spooky.generation.materials import MaterialError

    async def serve(candidate: "Candidate") -> bool:
        return await Supervisor(candidate, announce).run()

    try:
        return uvloop.run(serve(make()))
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
    import uvloop

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
        return uvloop.run(serve())
    except OSError as error:
        raise CommandError(f"cannot take over: {error}") from error
