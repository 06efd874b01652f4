"""Every kernel has its files, and both builds offer what the stub promises."""

import ast
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from spooky import _core

KERNELS = Path("spooky/_core")
TWINS = KERNELS / "pure"

# Kernels whose source is the twin itself: what the stub promises is what that defines.
COMPILED_TWINS = [kernel for kernel in _core.KERNELS if not (KERNELS / f"{kernel}.pyx").exists()]

# The native engine is built with the kernels and has no twins: a whole protocol's is a library.
ENGINE = KERNELS / "quic"
ENGINE_MODULES = sorted(path.stem for path in ENGINE.glob("*.pyx"))

# The parameters of what a stub promises; None for what it does not promise to be called.
Promises = dict[str, list[str] | None]


def promised(body: list[ast.stmt], prefix: str = "") -> Promises:
    """Return the public names of a stub, classes' members included."""
    names: Promises = {}
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            names[prefix + node.name] = None
            names |= promised(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names[prefix + node.name] = None if node.decorator_list else parameters(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[prefix + node.target.id] = None
    return names


def parameters(function: ast.FunctionDef) -> list[str]:
    """Return the names of a function's parameters, in order."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args]
    every += [each for each in (arguments.vararg,) if each is not None]
    every += arguments.kwonlyargs
    every += [each for each in (arguments.kwarg,) if each is not None]
    return [argument.arg for argument in every]


def resolve(module: ModuleType, name: str) -> object:
    """Return what a dotted name means in a module, or None."""
    thing: object = module
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing


def is_instance_attribute(module: ModuleType, name: str) -> bool:
    """Return whether a class of plain Python declares or sets a member on its instances."""
    owner, _, attribute = name.rpartition(".")
    family = getattr(resolve(module, owner), "__mro__", ())
    return any(
        attribute in inspect.get_annotations(cls)
        or f"self.{attribute} = " in inspect.getsource(cls)
        for cls in family
        if cls.__module__ == module.__name__
    )


def broken(module: ModuleType, promises: Promises, *, plain: bool) -> Iterator[str]:
    """Yield the promises that a module does not keep."""
    for name, expected in promises.items():
        thing = resolve(module, name)
        if thing is None:
            if not (plain and is_instance_attribute(module, name)):
                yield name
        elif expected is not None:
            found = list(inspect.signature(thing).parameters)  # type: ignore[arg-type]
            if found != expected:
                yield f"{name}({', '.join(found)}), promised ({', '.join(expected)})"


def promises_of(kernel: str, folder: Path = KERNELS) -> Promises:
    """Return what a kernel's stub promises."""
    if kernel in COMPILED_TWINS:
        return promised(ast.parse((TWINS / f"{kernel}.py").read_text()).body)
    return promised(ast.parse((folder / f"{kernel}.pyi").read_text()).body)


def test_no_kernel_is_left_out() -> None:
    # Twins share their hashes, as kernels do those of `hashing.pxd`, and balancers their base.
    twins = {path.stem for path in TWINS.glob("*.py")} - {"__init__", "hashes", "balancer"}
    assert twins == set(_core.KERNELS)
    assert {path.stem for path in KERNELS.glob("*.pyx")} == twins - set(COMPILED_TWINS)


@pytest.mark.parametrize("kernel", _core.KERNELS)
def test_a_kernel_has_source_declaration_stub_and_twin(kernel: str) -> None:
    suffixes = (".pxd", ".pyi") if kernel in COMPILED_TWINS else (".pyx", ".pxd", ".pyi")
    files = [KERNELS / f"{kernel}{suffix}" for suffix in suffixes]
    assert [path for path in (*files, TWINS / f"{kernel}.py") if not path.exists()] == []


@pytest.mark.parametrize("kernel", _core.KERNELS)
def test_the_twin_keeps_the_promises_of_the_stub(kernel: str) -> None:
    twin = importlib.import_module(f"spooky._core.pure.{kernel}")
    assert list(broken(twin, promises_of(kernel), plain=True)) == []


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@pytest.mark.parametrize("kernel", _core.KERNELS)
def test_the_compiled_kernel_keeps_the_promises_of_the_stub(kernel: str) -> None:
    compiled = importlib.import_module(f"spooky._core.{kernel}")
    assert list(broken(compiled, promises_of(kernel), plain=False)) == []


@pytest.mark.parametrize("module", ENGINE_MODULES)
def test_a_module_of_the_engine_has_a_declaration_and_no_twin(module: str) -> None:
    assert (ENGINE / f"{module}.pxd").exists()
    assert not (TWINS / f"{module}.py").exists()


@pytest.mark.skipif(not _core.COMPILED, reason="the engine is not compiled")
@pytest.mark.parametrize("module", sorted(path.stem for path in ENGINE.glob("*.pyi")))
def test_a_module_of_the_engine_keeps_the_promises_of_its_stub(module: str) -> None:
    compiled = importlib.import_module(f"spooky._core.quic.{module}")
    assert list(broken(compiled, promises_of(module, ENGINE), plain=False)) == []


# Noted as they are loaded: one that a twin imported too early is replaced afterwards.
LIST_EXTENSIONS = """
import importlib
from importlib.machinery import ExtensionFileLoader

load = ExtensionFileLoader.create_module

def create_module(loader, spec):
    if spec.name.startswith("spooky."):
        print(spec.name)
    return load(loader, spec)

ExtensionFileLoader.create_module = create_module
import spooky
from spooky._core import KERNELS
for kernel in KERNELS:
    importlib.import_module(f"spooky._core.{kernel}")
"""


def extensions_loaded(tree: Path, pure: str) -> list[str]:
    """Return which extension modules of ours a new interpreter loads with all kernels of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "SPOOKY_PURE": pure}
    command = [sys.executable, "-c", LIST_EXTENSIONS]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_every_twin_is_imported_where_nothing_is_built(tmp_path: Path) -> None:
    shutil.copytree(
        "spooky",
        tmp_path / "spooky",
        ignore=shutil.ignore_patterns("*.so", "*.c", "*.pyx", "*.pxd", "*.pxi", "__pycache__"),
    )
    assert extensions_loaded(tmp_path, "") == []


def test_no_compiled_kernel_is_mixed_with_the_twins() -> None:
    loaded = extensions_loaded(Path.cwd(), "1")
    assert [name for name in loaded if not name.startswith("spooky._core.quic.")] == []


def test_a_missing_name_and_another_parameter_are_found() -> None:
    stub = ast.parse("class Timer:\n    armed: bool\n    def fire(self, now: float) -> None: ...")
    module = ModuleType("kernel")
    exec("class Timer:\n    def fire(self, later): ...", module.__dict__)
    assert list(broken(module, promised(stub.body), plain=False)) == [
        "Timer.armed",
        "Timer.fire(self, later), promised (self, now)",
    ]
