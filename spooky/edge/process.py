"""A worker as a process of its own: ``python -m spooky.edge.process CHANNEL STACKS``.

``CHANNEL`` is the descriptor of its control channel, ``STACKS`` that of a file for its stack: that
is written there when it crashes, and when ``STACK_SIGNAL`` asks for it, even if its loop hangs.
"""

import asyncio
import faulthandler
import importlib
import logging
import os
import signal
import socket
import sys

import uvloop

from spooky._core import COMPILED
from spooky.config.security import Privileges, Security, numbers_of
from spooky.edge.agent import Agent
from spooky.edge.messages import STACK_SIGNAL
from spooky.protocol.h1.engine import field_parser
from spooky.protocol.h2.engine import engine_class
from spooky.runtime.confinement import Confined, Identity, confine, forbid_io_uring

# By its name: a worker's module is run as ``__main__``, which no log is configured for.
logger = logging.getLogger("spooky.edge.process")


class IdentityRefusedError(OSError):
    """A worker cannot become the user that was asked for; the text says why, and what to do."""


async def work(control: socket.socket) -> bool:
    """Run a worker until it ends.

    Returns:
        Whether it could serve.
    """
    _import_what_is_imported_late()
    agent = Agent(control, confine_worker)
    loop = asyncio.get_running_loop()
    # The supervisor is told to stop, not we: a terminal signals the whole group.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, agent.drain_as_configured)
    return await agent.run()


def confine_worker(security: Security) -> None:
    """Give up all that a worker does not need; there is no way back.

    Raises:
        UnknownNameError: There is no such user.
        IdentityRefusedError: It cannot become the one that is configured.
        OSError: The kernel refuses what it has.
    """
    privileges = security.privileges
    identity = None
    if os.geteuid() == 0 and privileges.enabled:
        identity = Identity(*numbers_of(privileges))
    confined = confine(identity, sandbox=security.sandbox)
    _report_identity(privileges, confined)
    if security.sandbox and not (confined.landlock and confined.seccomp):
        missing = [
            name
            for name, has in (("Landlock", confined.landlock), ("seccomp", confined.seccomp))
            if not has
        ]
        logger.warning("this kernel does not restrict workers by %s", " and ".join(missing))


def _report_identity(privileges: Privileges, confined: Confined) -> None:
    if confined.refused:
        text = f"workers cannot be those of {privileges.name}: {confined.refused}"
        cure = (
            "give the container or unit CAP_SETUID, CAP_SETGID and CAP_KILL, and the user, or "
            "start Spooky as another user than root"
        )
        if privileges.is_asked_for:
            raise IdentityRefusedError(f"{text}; {cure}, or set security.privileges.enabled: false")
        logger.warning("%s; they stay root's, without capabilities: %s", text, cure)
    if not confined.finds_modules:
        logger.warning(
            "the worker's user cannot read Python's modules at %s: install Python and Spooky where "
            "everybody can, or name a user that can as security.privileges.user",
            os.path.dirname(os.__file__),
        )


def _import_what_is_imported_late() -> None:
    """Import what is else imported at its first use: once it serves, a worker opens no file."""
    field_parser()
    engine_class()
    # Looked up by the first TLS connection to a name.
    "x".encode("idna")
    importlib.import_module("cryptography.hazmat.backends.openssl.backend")
    importlib.import_module("spooky._core.quic.sealing" if COMPILED else "cffi.cparser")


def main() -> int:
    """Run the worker of a control channel, with a file for its stacks; see the module."""
    stacks = int(sys.argv[2])
    faulthandler.enable(stacks)
    faulthandler.register(STACK_SIGNAL, stacks)
    forbid_io_uring()
    control = socket.socket(fileno=int(sys.argv[1]))
    return 0 if uvloop.run(work(control)) else 1


if __name__ == "__main__":
    sys.exit(main())
