"""Names of backends where nobody else resolves them: asked for, remembered and followed."""

from collections.abc import Sequence

from spooky.config.schema import Configuration
from spooky.control.names import Names
from spooky.edge.messages import Resolve, Resolved
from spooky.edge.names import AskedNames
from spooky.runtime import Runtime
from spooky.upstream import dial


class OwnNames:
    """Gives the addresses of backends to a worker in this process, as a supervisor would.

    What is known is given at once: a new connection to a backend that lives does not wait for a
    resolver that does not.

    Arguments:
        runtime: Whose loop to use.
        resolve: Asks the system.
    """

    def __init__(self, runtime: Runtime, resolve: dial.Resolve) -> None:
        self._runtime = runtime
        self._names = Names(resolve)
        self._asked = AskedNames(self._ask, runtime.now)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host.

        Raises:
            socket.gaierror: It never resolved.
        """
        return await self._asked.resolve(host, port)

    def changed(self, host: str, port: int, addresses: Sequence[str]) -> None:
        """Take the addresses that a host has from now on."""
        self._asked.answered(Resolved(host, port, tuple(addresses), changed=True))

    def follow(self, configuration: Configuration) -> None:
        """Forget the names that what is in force does not have."""
        self._asked.follow(configuration)

    def _ask(self, question: Resolve) -> None:
        self._runtime.start_task(self._answer(question))

    async def _answer(self, question: Resolve) -> None:
        self._asked.answered(await self._names.ask(question.host, question.port))
