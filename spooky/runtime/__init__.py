"""When things run: the clock, the timers and the turn of a worker's event loop."""

from spooky.runtime.runtime import Flushable, Runtime

__all__ = ["Flushable", "Runtime"]
