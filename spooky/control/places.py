"""Where the control socket and the history are, unless the configuration says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spooky.config.control import Control

SOCKET_VARIABLE: Final = "SPOOKY_SOCKET"
SOCKET_NAME: Final = "control.sock"
SYSTEM_RUNTIME_DIRECTORY: Final = Path("/run")
SYSTEM_STATE_DIRECTORY: Final = Path("/var/lib/spooky")


def socket_path(control: Control, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the control socket of a running Spooky is."""
    if control.socket is not None:
        return Path(control.socket)
    return default_socket(environment)


def default_socket(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where it is if no configuration says so; commands look there too."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (Path(runtime) if runtime else SYSTEM_RUNTIME_DIRECTORY) / "spooky" / SOCKET_NAME


def state_directory(
    control: Control, environment: Mapping[str, str] = os.environ, *, root: bool | None = None
) -> Path:
    """Return where the history is.

    Arguments:
        root: Whether the service runs as root; ``None`` to ask the system.
    """
    if control.state_dir is not None:
        return Path(control.state_dir)
    # systemd may name several, divided by colons; the first is the main one (systemd.exec(5)).
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if os.geteuid() == 0 if root is None else root:
        return SYSTEM_STATE_DIRECTORY
    home = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home) / "spooky"
