"""Watching gates at which somebody waits for a place that another worker may give up."""

from typing import Final

from spooky._core.gate import Gate
from spooky.runtime import Runtime

LOOK_SECONDS: Final = 0.005
"""How often a gate is looked at; what a wait may be too long by."""


class GateWatch:
    """Looks at gates as long as somebody waits there.

    Arguments:
        runtime: The worker's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._gates: set[Gate] = set()

    def add(self, gate: Gate) -> None:
        """Look at a gate until nobody waits there."""
        if not self._gates:
            self._schedule()
        self._gates.add(gate)

    def _schedule(self) -> None:
        self._runtime.schedule(self._runtime.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        for gate in list(self._gates):
            if not gate.look():
                self._gates.discard(gate)
        if self._gates:
            self._schedule()
