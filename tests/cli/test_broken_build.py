"""A checkout that was built halfway says what to run, and prints no traceback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spooky._core import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="there are no kernels that could be broken")


def extension(package: Path, kernel: str) -> Path:
    """Return the file of a kernel."""
    (found,) = (package / "_core").glob(f"{kernel}.*.so")
    return found


def remove(package: Path) -> None:
    extension(package, "timers").unlink()


def remove_what_others_are_built_on(package: Path) -> None:
    extension(package, "quic/pacer").unlink()


def cut_off(package: Path) -> None:
    path = extension(package, "udp")
    path.unlink()
    path.write_bytes(b"\x7fELF")


def replace(package: Path) -> None:
    path = extension(package, "udp")
    path.unlink()
    shutil.copy(extension(package, "timers"), path)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, of links, that a test may break."""
    copy = tmp_path / "spooky"
    ignored = shutil.ignore_patterns("*.c")
    shutil.copytree(Path("spooky").resolve(), copy, copy_function=os.symlink, ignore=ignored)
    return copy


def serve(package: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spooky.cli.main", "serve", "--config", "nowhere.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )


@pytest.mark.parametrize(
    ("broken", "kernel"),
    [
        (remove, "spooky._core.timers"),
        (remove_what_others_are_built_on, "spooky._core.quic.pacer"),
        (cut_off, "spooky._core.udp"),
        (replace, "spooky._core.udp"),
    ],
)
def test_the_kernel_is_named_and_what_to_run(
    package: Path, broken: Callable[[Path], None], kernel: str
) -> None:
    broken(package)
    result = serve(package)
    assert result.returncode == 1
    first, remedy = result.stderr.splitlines()
    assert first.startswith(f"error: the compiled {kernel} cannot be loaded: ")
    assert "`make build`" in remedy


def test_another_error_is_not_passed_off_as_one_of_the_build(package: Path) -> None:
    command = package / "cli" / "serve.py"
    command.unlink()
    command.write_text("import spooky.nothing_of_that_name\n")
    result = serve(package)
    assert "Traceback" in result.stderr
    assert "make build" not in result.stderr
