"""Pin what the build and the suite install, with hashes: ``python tools/lock.py``.

Writes one file of ``requirements/`` for each set that a make target installs. Later sets are
constrained by earlier ones, so that a version is the same in all of them.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

from dependency_groups import resolve

FOLDER = Path("requirements")

SETS = {
    "runtime": (),
    "build": ("build",),
    "suite": ("build", "wheel", "lint", "lock", "test"),
}
"""Groups of ``pyproject.toml`` in each set; all have what Spooky itself needs."""

OPTIONS = (
    "--generate-hashes",
    "--allow-unsafe",  # setuptools is part of the build; unpinned it would be the one loose end.
    "--strip-extras",
    "--no-header",
    "--no-annotate",
    # Where packages come from is the business of whoever installs them.
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-emit-options",
)


def requirements(groups: tuple[str, ...]) -> str:
    """Return what a set asks for, one requirement a line."""
    project = tomllib.loads(Path("pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *resolve(project["dependency-groups"], *groups)]
    return "\n".join(asked) + "\n"


def lock(name: str, groups: tuple[str, ...], constraints: list[Path]) -> Path:
    """Write one set and return its path."""
    path = FOLDER / f"{name}.txt"
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--upgrade", *OPTIONS]
    for constraint in constraints:
        command += ["--constraint", str(constraint)]
    subprocess.run(
        [*command, "--output-file", str(path), "-"],
        input=requirements(groups),
        text=True,
        check=True,
    )
    return path


def main() -> None:
    """Write all sets."""
    FOLDER.mkdir(exist_ok=True)
    written: list[Path] = []
    for name, groups in SETS.items():
        written.append(lock(name, groups, written))


if __name__ == "__main__":
    main()
