"""Which kernel an import failed at: one that was not built, or not since its source changed."""

from pathlib import Path
from types import TracebackType
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]

KERNELS: Final = "spooky._core."

EXTENSION_SUFFIX: Final = ".so"

INITIALIZING: Final = "init "
"""What Cython calls the code that runs when a module is imported; the module's name follows."""


def unloadable_kernel(error: Exception) -> str | None:
    """Return the name of the kernel that could not be loaded, or ``None`` if it was not that.

    A kernel is built against the declarations of others. Where these have changed since, importing
    it fails in many ways: a name that is missing, a signature or a size that differs.
    """
    if isinstance(error, ImportError):
        path = Path(error.path or "")
        if path.suffix == EXTENSION_SUFFIX and path.is_relative_to(PACKAGE):
            inside = path.relative_to(PACKAGE)
            # What follows the first dot of the file's name is the interpreter it was built for.
            return ".".join((PACKAGE.name, *inside.parent.parts, path.name.partition(".")[0]))
        if error.path is None and (error.name or "").startswith(KERNELS):
            return error.name
    return _initializing(error.__traceback__)


def _initializing(traceback: TracebackType | None) -> str | None:
    """Return the kernel whose import was under way last, if one was."""
    found = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_name.removeprefix(INITIALIZING)
        if name.startswith(KERNELS):
            found = name
        traceback = traceback.tb_next
    return found
