"""The compiled kernels, each with a pure-Python twin of the same name in :mod:`spooky._core.pure`.

``import spooky._core.routes`` gives the compiled kernel, or its twin when ``SPOOKY_PURE`` is set to
anything but empty or 0, or when no kernel was built. All kernels come from one side: a mixture
would pass objects of one implementation to the other.
"""

import importlib
import os
import sys
from importlib.util import find_spec
from typing import Final

# Each after those that its twin imports: where nothing is built, there is nothing else to import.
KERNELS: Final = (
    "validate", "fields", "qpack", "priority", "h3_wire", "h3_frames", "sections", "h3_fields",
    "h3_budget", "h3", "h3_unidirectional", "h3_session", "h3_server", "h3_client", "h2_gate",
    "h2_stream", "h2_sender", "h2", "h2_client", "routes", "decisions", "balance", "timers", "udp",
    "shared", "packets", "concurrency", "breaker", "outcomes", "turns", "authority", "terms",
    "gate", "admission", "access_record", "deadlines", "attempt", "accounts", "service", "exchange",
    "stages", "hand_off", "quic_link", "tcp", "carrier", "arrivals", "dispatch", "opening",
    "client_connection",
)  # fmt: skip


def _is_built(kernel: str) -> bool:
    """Return whether an extension module for this kernel is installed."""
    return find_spec(f"{__name__}.{kernel}") is not None


def _install_twins() -> None:
    """Put every twin under the kernel's module name."""
    for kernel in KERNELS:
        twin = importlib.import_module(f"{__name__}.pure.{kernel}")
        sys.modules[f"{__name__}.{kernel}"] = twin
        globals()[kernel] = twin


_missing = [kernel for kernel in KERNELS if not _is_built(kernel)]
_asked_for_pure = os.environ.get("SPOOKY_PURE", "") not in ("", "0")

if _missing and len(_missing) != len(KERNELS) and not _asked_for_pure:
    raise ImportError(
        f"only some kernels are built; missing: {', '.join(_missing)}",
        name=f"{__name__}.{_missing[0]}",
    )

COMPILED: Final = not _missing and not _asked_for_pure
"""Whether the compiled kernels are in use."""

if not COMPILED:
    _install_twins()
