"""The twins of kernels beside the compiled ones, in one process."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from spooky import _core


@contextmanager
def installed(*names: str) -> Iterator[dict[str, ModuleType]]:
    """Have whatever is imported inside take the twins of these kernels, loaded anew.

    Arguments:
        names: Those that are imported by others come first.
    """
    before = {name: importlib.import_module(f"spooky._core.{name}") for name in names}
    made = {}
    try:
        for name in names:
            sys.modules.pop(f"spooky._core.pure.{name}", None)
            made[name] = importlib.import_module(f"spooky._core.pure.{name}")
            sys.modules[f"spooky._core.{name}"] = made[name]
            setattr(_core, name, made[name])
        yield made
    finally:
        for name, module in before.items():
            sys.modules[f"spooky._core.{name}"] = module
            setattr(_core, name, module)


@contextmanager
def anew(modules: tuple[str, ...]) -> Iterator[None]:
    """Have whatever is imported inside take other copies of these modules."""
    before = {name: sys.modules.pop(name) for name in modules}
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules[name] = module
            package, _, last = name.rpartition(".")
            setattr(sys.modules[package], last, module)


def twins(*names: str) -> dict[str, ModuleType]:
    """Return the twins of kernels, which import each other and not the compiled ones."""
    with installed(*names) as made:
        return made


def module_over_twins(
    module: str, *names: str, beside: tuple[str, ...] = ()
) -> tuple[ModuleType, dict[str, ModuleType]]:
    """Return a second copy of a module that takes the twins of these kernels, and the twins.

    Arguments:
        beside: Modules that it imports, and that have to take the twins as well.
    """
    path = Path(*module.split(".")).with_suffix(".py")
    with installed(*names) as made, anew(beside):
        spec = importlib.util.spec_from_file_location(f"{module}_over_twins", path)
        assert spec is not None
        assert spec.loader is not None
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
    return copy, made
