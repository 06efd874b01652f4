"""An HTTP/3-first edge proxy that can be embedded.

``spooky.Proxy`` serves inside a running event loop; everything else here is what it takes,
returns and raises.
"""

import importlib
from typing import TYPE_CHECKING

from spooky._version import __version__

if TYPE_CHECKING:
    from spooky.config.problems import ConfigurationError as ConfigurationError
    from spooky.control.sockets import BindError as BindError
    from spooky.generation.compile import CompileError as CompileError
    from spooky.generation.materials import MaterialError as MaterialError
    from spooky.proxy import Proxy as Proxy
    from spooky.upstream.application import Request as Request
    from spooky.upstream.application import Response as Response

__all__ = [
    "BindError",
    "CompileError",
    "ConfigurationError",
    "MaterialError",
    "Proxy",
    "Request",
    "Response",
    "__version__",
]

_HOMES = {
    "BindError": "spooky.control.sockets",
    "CompileError": "spooky.generation.compile",
    "ConfigurationError": "spooky.config.problems",
    "MaterialError": "spooky.generation.materials",
    "Proxy": "spooky.proxy",
    "Request": "spooky.upstream.application",
    "Response": "spooky.upstream.application",
}


def __getattr__(name: str) -> object:
    """Import what is asked for only then, so that small commands start fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spooky' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
