"""When things run: the clock, the timers and the turn of a worker's event loop."""

from spooky.runtime.runtime import Runtime

__all__ = ["Runtime"]
