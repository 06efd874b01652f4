"""Running a supervisor from a command."""

from collections.abc import Callable

from spooky.cli.errors import CommandError
from spooky.config.schema import Configuration


def serve_until_stopped(
    configuration: Configuration, announce: Callable[[list[tuple[str, int]]], None]
) -> bool:
    """Serve until a signal says to stop.

    Arguments:
        announce: Called with the bound addresses once clients can connect.

    Returns:
        Whether everything in flight finished.

    Raises:
        CommandError: It could not start.
    """
    import uvloop

    from spooky.control.crew import StartError
    from spooky.control.sockets import BindError
    from spooky.control.supervisor import Supervisor
    from spooky.generation.materials import MaterialError

    async def serve() -> bool:
        return await Supervisor(configuration, announce).run()

    try:
        return uvloop.run(serve())
    except (BindError, MaterialError, StartError) as error:
        raise CommandError(str(error)) from error
