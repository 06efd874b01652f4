"""Build the kernels of ``spooky._core`` and the load generator; ``SPOOKY_PURE=1`` builds none."""

import os
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("spooky/_core")
LOAD = Path("spooky/bench")

# A worker that was woken for one handshake or request waits for its code to come into the caches
# again: -O3 makes an eighth more of it, and stubs for calls of Python's are in pages of their own.
OPTIMIZED = ["-O2", "-fno-plt"]


def kernels() -> list[Extension]:
    """Return one extension for each kernel source, or none for a pure build."""
    if os.environ.get("SPOOKY_PURE", "0") not in ("", "0"):
        return []
    from Cython.Build import cythonize

    # SPOOKY_SANITIZE=1: bounds checks on and AddressSanitizer, for `make test-sanitize`.
    sanitize = os.environ.get("SPOOKY_SANITIZE", "0") not in ("", "0")
    # -Og compiles in half the time of -O1 and leaves out no check.
    flags = ["-Og", "-g1", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    # SPOOKY_COVERAGE=1: every block of the kernels is counted, for `make fuzz`.
    covered = os.environ.get("SPOOKY_COVERAGE", "0") not in ("", "0")
    counted = ["-O1", "-fsanitize-coverage=trace-pc,trace-cmp"]
    written = sorted([*KERNELS.rglob("*.pyx"), *LOAD.glob("*.pyx")])
    sources = {path.with_suffix(""): path for path in written}
    # A kernel without a source of its own is its twin, with the C types of its declaration.
    declarations = sorted(KERNELS.glob("*.pxd"))
    declared = max(path.stat().st_mtime for path in declarations)
    for declaration in declarations:
        module, twin = declaration.with_suffix(""), KERNELS / f"pure/{declaration.stem}.py"
        if module in sources or not twin.exists():
            continue
        sources[module] = twin
        # Cython looks for changed declarations beside the source only.
        generated = twin.with_suffix(".c")
        if generated.exists() and generated.stat().st_mtime < declared:
            generated.unlink()
    extensions = [
        Extension(
            ".".join(module.parts),
            [str(source)],
            extra_compile_args=[*(flags * sanitize), *(counted * covered)] or OPTIMIZED,
            extra_link_args=["-fsanitize=address,undefined"] if sanitize else [],
        )
        for module, source in sources.items()
    ]
    return cythonize(extensions, nthreads=os.cpu_count() or 1, force=sanitize and not covered)


setup(ext_modules=kernels())
