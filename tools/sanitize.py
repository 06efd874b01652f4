"""Run the kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer.

Works in a copy of the tree, so the ordinary build beside it is left alone. In the copy every
``boundscheck=False`` is turned on: a directive in a source file beats one given to the compiler.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

COPY = Path("build/sanitize")
BOUNDS_UNCHECKED = re.compile(r"(boundscheck\s*[=(]\s*)False")

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


def copy_tree() -> None:
    """Copy sources and tests, without what was built."""
    shutil.rmtree(COPY, ignore_errors=True)
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for folder in ("spooky", "tests"):
        shutil.copytree(folder, COPY / folder, ignore=built)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(file, COPY)
    for source in (COPY / "spooky/_core").rglob("*.p[yx][xd]"):
        source.write_text(BOUNDS_UNCHECKED.sub(r"\1True", source.read_text()))


def sanitizer_runtime() -> str:
    """Return the path of the AddressSanitizer library that belongs to the compiler."""
    command = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.check_output(command, text=True).strip()


def main() -> None:
    """Copy, build, and run ``tests/core`` there; exit with pytest's status."""
    copy_tree()
    environment = os.environ | {"CC": "gcc", "SPOOKY_SANITIZE": "1", "PYTHONPATH": "."}
    environment.pop("SPOOKY_PURE", None)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--parallel=2"]
    subprocess.run(build, cwd=COPY, env=environment, check=True)
    environment |= {
        "LD_PRELOAD": sanitizer_runtime(),
        # The interpreter itself leaves memory behind at exit: leaks are another test's subject.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        # Every bytes object in a heap block of its own, so that reading past it is seen.
        "PYTHONMALLOC": "malloc",
    }
    subprocess.run([sys.executable, "-c", CHECK], cwd=COPY, env=environment, check=True)
    tests = [sys.executable, "-m", "pytest", "tests/core", "-m", "not soak", "-n", "auto"]
    sys.exit(subprocess.run(tests, cwd=COPY, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
