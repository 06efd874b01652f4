"""A worker as a process of its own: ``python -m spooky.edge.process CHANNEL STACKS``.

``CHANNEL`` is the descriptor of its control channel, ``STACKS`` that of a file for its stack: that
is written there when it crashes, and when ``STACK_SIGNAL`` asks for it, even if its loop hangs.
"""

import asyncio
import faulthandler
import importlib
import signal
import socket
import sys

import uvloop

from spooky._core import COMPILED
from spooky.edge.agent import Agent
from spooky.edge.messages import STACK_SIGNAL
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h2.engine import engine_class


async def work(control: socket.socket) -> bool:
    """Run a worker until it ends.

    Returns:
        Whether it could serve.
    """
    _import_what_is_imported_late()
    agent = Agent(control)
    loop = asyncio.get_running_loop()
    # The supervisor is told to stop, not we: a terminal signals the whole group.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, agent.drain_as_configured)
    return await agent.run()


def _import_what_is_imported_late() -> None:
    """Import what is else imported at its first use: once it serves, a worker opens no file."""
    field_parser()
    engine_class()
    importlib.import_module("cryptography.hazmat.backends.openssl.backend")
    if not COMPILED:
        importlib.import_module("cffi.cparser")


def main() -> int:
    """Run the worker of a control channel, with a file for its stacks; see the module."""
    stacks = int(sys.argv[2])
    faulthandler.enable(stacks)
    faulthandler.register(STACK_SIGNAL, stacks)
    control = socket.socket(fileno=int(sys.argv[1]))
    return 0 if uvloop.run(work(control)) else 1


if __name__ == "__main__":
    sys.exit(main())
