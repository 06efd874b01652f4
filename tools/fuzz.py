"""Fuzz one target with kernels whose every block is counted, as coverage guides by nothing else.

Builds them into ``build/fuzz-kernels``, so the ordinary build is left alone; after that only what
changed. Arguments are those of ``python -m fuzz``.
"""

import os
import subprocess
import sys
from pathlib import Path

BUILT = Path("build/fuzz-kernels")
PACKAGES = BUILT / "lib"


def build() -> None:
    """Compile the kernels, and what passes on which of their blocks ran."""
    environment = os.environ | {"CC": "gcc", "SPOOKY_COVERAGE": "1"}
    environment.pop("SPOOKY_PURE", None)
    places = ["--build-base", str(BUILT / "base"), "--build-lib", str(PACKAGES)]
    command = [sys.executable, "setup.py", "-q", "build", *places, "--parallel", "2"]
    subprocess.run(command, env=environment, check=True)
    library = str(BUILT / "coverage.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, "fuzz/coverage.c"], check=True)


def main() -> None:
    """Build and fuzz; exit with the fuzzer's status."""
    build()
    environment = os.environ | {"PYTHONPATH": f"{PACKAGES}:.", "SPOOKY_COVERAGE": str(BUILT)}
    # Without the folder that it is started in, whose kernels are the ordinary ones.
    command = [sys.executable, "-P", "-m", "fuzz", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
