"""What a worker is told to put in force, and what it has made of that."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from spooky.config.schema import Configuration
from spooky.edge.listener import WorkerSockets
from spooky.generation.materials import Materials


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A configuration to put in force, with all that it takes.

    Attributes:
        number: The generation's.
        configuration: What to serve.
        materials: The files that it names.
        listeners: The number of each active listener, in the order of the configuration.
        sockets: For each listener that is not there yet, by number; the worker's from now on.
        drain_seconds: How long the streams of removed listeners and backends have.
        logs: Descriptors of ``log`` and ``access_log``, as far as they are files, if another
            configuration of them comes in force; the worker's from now on.
    """

    number: int
    configuration: Configuration
    materials: Materials
    listeners: tuple[int, ...]
    sockets: Mapping[int, WorkerSockets] = field(default_factory=dict)
    drain_seconds: float = 0.0
    logs: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Close what came with a change that does not come in force; idempotent."""
        while self.logs:
            os.close(self.logs.popitem()[1])
        for sockets in self.sockets.values():
            sockets.close()
