"""Running a supervisor from a command."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from spooky.cli.errors import CommandError

if TYPE_CHECKING:
    from spooky.control.candidate import Candidate


def serve_until_stopped(
    make: "Callable[[], Candidate]", announce: Callable[[list[tuple[str, int]]], None]
) -> bool:
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
