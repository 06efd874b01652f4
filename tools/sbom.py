"""Say what stands behind a wheel, as a CycloneDX document: ``python tools/sbom.py WHEEL FILE``.

The wheel and the locked packages it needs are installed into a new environment, and what is there
is written down: names, versions, licenses, and who needs whom. The same wheel gives the same bytes.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

RUNTIME = Path("requirements/runtime.txt")


def write(wheel: Path, document: Path) -> None:
    """Write the document of one wheel; whatever cannot be installed or described raises."""
    with tempfile.TemporaryDirectory() as scratch:
        # Without pip, which is not part of what runs.
        venv.create(scratch)
        python = Path(scratch, "bin/python")
        install = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install"]
        subprocess.run([*install, "--require-hashes", "--requirement", str(RUNTIME)], check=True)
        subprocess.run([*install, "--no-deps", str(wheel)], check=True)
        describe = [sys.executable, "-m", "cyclonedx_py", "environment", str(python)]
        options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file"]
        subprocess.run([*describe, *options, str(document)], check=True)


def main() -> None:
    """Describe the wheel named on the command line."""
    wheel, document = (Path(argument) for argument in sys.argv[1:])
    write(wheel, document)


if __name__ == "__main__":
    main()
