"""Run the kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer.

Works in a copy of the tree, so the ordinary build beside it is left alone. In the copy every
``boundscheck=False`` is turned on: a directive in a source file beats one given to the compiler.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

COPY = Path("build/sanitize")
BOUNDS_UNCHECKED = re.compile(rb"(boundscheck\s*[=(]\s*)False")
BUILT_SUFFIXES = (".so", ".c", ".pyc")

OPTIONS = {
    # The interpreter itself leaves memory behind at exit: leaks are another test's subject.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    # Every bytes object in a heap block of its own, so that reading past it is seen.
    "PYTHONMALLOC": "malloc",
}

# PYTHONPATH comes before the editable install; make sure that it is the copy that is tested.
CHECK = """
import importlib, pathlib
from spooky import _core
assert _core.COMPILED
core = pathlib.Path("spooky/_core")
for source in {*core.rglob("*.pyx"), *(core / kernel for kernel in _core.KERNELS)}:
    module = importlib.import_module(".".join(source.with_suffix("").parts))
    path = pathlib.Path(module.__file__)
    assert "build/sanitize" in str(path) and b"__asan_init" in path.read_bytes(), path
"""


def copy_tree(copy: Path, folders: Iterable[str]) -> None:
    """Copy what a build needs, and these folders, with bounds checks on.

    What was built stays, and what did not change: only the rest is built again.
    """
    files = [Path(name) for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE")]
    for folder in folders:
        files += (path for path in Path(folder).rglob("*") if path.is_file())
    for path in files:
        if path.suffix in BUILT_SUFFIXES:
            continue
        content = path.read_bytes()
        if path.is_relative_to("spooky/_core") and path.suffix in (".py", ".pyx", ".pxd"):
            content = BOUNDS_UNCHECKED.sub(rb"\1True", content)
        there = copy / path
        if not there.exists() or there.read_bytes() != content:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)


def runtime() -> str:
    """Return the path of the AddressSanitizer library that belongs to the compiler."""
    command = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.check_output(command, text=True).strip()


def main() -> None:
    """Copy, build, run ``tests/core`` and fuzz inputs, changed ones too; exit as pytest does."""
    shutil.rmtree(COPY, ignore_errors=True)
    copy_tree(COPY, ("spooky", "tests", "fuzz"))
    environment = os.environ | {"CC": "gcc", "SPOOKY_SANITIZE": "1", "PYTHONPATH": "."}
    environment.pop("SPOOKY_PURE", None)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--parallel=2"]
    subprocess.run(build, cwd=COPY, env=environment, check=True)
    environment |= OPTIONS | {"LD_PRELOAD": runtime()}
    subprocess.run([sys.executable, "-c", CHECK], cwd=COPY, env=environment, check=True)
    pytest = [sys.executable, "-m", "pytest", "-n", "auto", "-m", "not soak"]
    tests = ["tests/core", "tests/fuzz/test_seeds.py", "tests/fuzz/test_mutations.py"]
    sys.exit(subprocess.run([*pytest, *tests], cwd=COPY, env=environment).returncode)


if __name__ == "__main__":
    main()
