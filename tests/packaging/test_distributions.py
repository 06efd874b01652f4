"""The wheel and the sdist install into clean environments without a compiler, and work there."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from spooky._core import KERNELS

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

DEMO = Path("tools/demo.py").resolve()


@pytest.fixture(scope="session")
def sdist(distributions: Path) -> Path:
    return next(distributions.glob("*.tar.gz"))


class Installation:
    """A new virtual environment in which no compiler can be found."""

    def __init__(self, folder: Path, **environment: str) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.folder = folder
        self.bin = folder / "venv/bin"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "SPOOKY_PURE")
        }
        self.environment = inherited | {"PATH": str(self.bin), "CC": "/bin/false"} | environment

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run a program of the environment, away from the source, and return what it prints."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def info(self) -> Any:
        """Return what ``spooky info`` knows."""
        return json.loads(self.run("spooky", "info", "--json"))


@pytest.fixture(scope="session")
def from_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("from-wheel"))
    installation.run("pip", "install", "--quiet", "--only-binary=:all:", wheel)
    return installation


@pytest.fixture(scope="session")
def pure(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("pure"), SPOOKY_PURE="1")
    installation.run("pip", "install", "--quiet", sdist)
    # Installed without extensions, it is pure whether asked to be or not.
    del installation.environment["SPOOKY_PURE"]
    return installation


def test_the_wheel_is_for_this_python_and_any_glibc_since_2_28(wheel: Path) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name.endswith(f"-{python}-{python}-manylinux_2_28_x86_64.whl")


def test_the_wheel_holds_kernels_stubs_and_declarations_and_no_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}-x86_64-linux-gnu"
    expected = {
        f"spooky/_core/{kernel}{suffix}"
        for kernel in KERNELS
        for suffix in (".pyi", ".pxd", f".{tag}.so")
    }
    assert {"spooky/py.typed", *expected} <= names
    assert {Path(name).suffix for name in names if name.startswith("spooky/")} == {
        "",
        ".py",
        ".pyi",
        ".pxd",
        ".so",
        ".typed",
        # The status page's style and script.
        ".css",
        ".js",
    }
    assert {name.split("/")[0] for name in names if not name.startswith("spooky-")} == {"spooky"}


def test_the_sdist_holds_what_a_build_needs_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names
    sources = {str(path) for path in Path("spooky/_core").rglob("*.p[yx][xd]")}
    assert sources | {f"spooky/_core/pure/{kernel}.py" for kernel in KERNELS} <= names
    assert {name for name in names if name.endswith((".c", ".so", ".pyc"))} == set()


def test_the_wheel_runs_compiled_where_there_is_no_compiler(from_wheel: Installation) -> None:
    assert from_wheel.info()["spooky"]["core"] == "compiled"
    imports = "".join(f"import spooky._core.{kernel}\n" for kernel in KERNELS)
    from_wheel.run("python", "-c", imports)


def test_the_wheel_serves_a_request(from_wheel: Installation) -> None:
    assert "Hello from behind Spooky" in from_wheel.run("python", DEMO, "--once")


def test_the_wheel_measures_its_kernels_against_their_twins(from_wheel: Installation) -> None:
    table = from_wheel.run("spooky", "bench", "micro", "--seconds", "0", "route lookup: 1,000")
    _, name, *costs, ratio, _ = (cell.strip() for cell in table.splitlines()[-1].split("|"))
    assert name == "route lookup: 1,000 routes"
    assert all(cost.endswith(" ns") for cost in costs)
    assert float(ratio) > 1


def test_a_pure_installation_needs_no_compiler_and_says_so(pure: Installation) -> None:
    assert pure.info()["spooky"]["core"] == "pure Python"
    assert list(pure.bin.parent.glob("lib/*/site-packages/spooky/**/*.so")) == []


def test_a_pure_installation_serves_a_request(pure: Installation) -> None:
    assert "Hello from behind Spooky" in pure.run("python", DEMO, "--once")
