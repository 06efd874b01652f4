"""Addresses of backends, without those where this proxy listens for operators."""

import logging
from collections.abc import Callable

from spooky.config.control_reach import is_for_operators
from spooky.config.schema import Configuration
from spooky.upstream.dial import Resolve
from spooky.upstream.resolver import Name

logger = logging.getLogger(__name__)


class OutsideResolver:
    """Leaves out own addresses at which the control API or the metrics of this proxy listen.

    The check of a configuration finds what says so; a name may lead there later, and clients would
    reach what trusts this machine most.

    Arguments:
        resolve: Gives the addresses of hosts.
        configuration: Returns what is in force.
    """

    def __init__(self, resolve: Resolve, configuration: Callable[[], Configuration]) -> None:
        self._resolve = resolve
        self._configuration = configuration
        self._known: set[Name] = set()

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host; raises what the resolver does."""
        addresses = await self._resolve(host, port)
        configuration = self._configuration()
        kept = [each for each in addresses if not is_for_operators(configuration, each, port)]
        if len(kept) == len(addresses):
            self._known.discard((host, port))
        elif (host, port) not in self._known:
            self._known.add((host, port))
            left_out = ", ".join(each for each in addresses if each not in kept)
            logger.error(
                "%s port %d leads to what this proxy has for operators: %s is left out",
                host, port, left_out,
            )  # fmt: skip
        return kept
