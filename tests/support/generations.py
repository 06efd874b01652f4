"""Generations of a worker without listeners and without traffic."""

import asyncio
from typing import Any

from msgspec import structs

from spooky import config
from spooky.generation.compile import Environment, compile_generation
from spooky.generation.generation import Generation
from spooky.generation.materials import Materials
from spooky.observe.counters import Counters
from spooky.runtime import Runtime
from spooky.upstream.pool import Pool
from spooky.upstream.resolver import SystemResolver


class Generations:
    """Generations of one worker.

    Attributes:
        runtime: The worker's.
        environment: Where they are in force.
    """

    def __init__(self) -> None:
        self.runtime = Runtime(asyncio.get_running_loop())
        resolve = SystemResolver(self.runtime.loop)
        self.environment = Environment(self.runtime, Counters(), resolve, {})

    def arguments(self, wanted: dict[str, Any], number: int) -> Any:
        """Return what compiles a configuration with this number."""
        loaded = config.from_mapping(wanted)
        # Of listeners nothing matters here, and their files are not there.
        bare = structs.replace(loaded, listen=None)
        return bare, Materials({}, b""), self.environment, number

    def compile(self, wanted: dict[str, Any], number: int) -> Generation:
        """Return a generation that is not in force."""
        return compile_generation(*self.arguments(wanted, number))

    @property
    def pools(self) -> list[Pool]:
        """All pools of connections there are."""
        return [pool for pool in self.environment.pools.values() if isinstance(pool, Pool)]
