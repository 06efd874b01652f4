"""What holds for every file: its length, its docstring, and nothing left unfinished."""

import ast
import re
from pathlib import Path

import pytest

MAX_LINES = 600
"""A file longer than this has more than one subject."""

PYTHON = sorted(Path("spooky").rglob("*.py"))
SOURCES = sorted([*PYTHON, *Path("spooky").rglob("*.pyx"), *Path("spooky").rglob("*.pxd")])

FOLDERS = ("spooky", "tests", "tools", "benchmarks", "fuzz", "docs", ".ci")
TEXT = {".py", ".pyi", ".pyx", ".pxd", ".md", ".toml", ".yaml", ".sh", ".in", ""}
EVERYWHERE = [
    path
    for place in (*FOLDERS, ".")
    for path in sorted(Path(place).glob("*" if place == "." else "**/*"))
    if path.is_file() and path.suffix in TEXT and path.name != ".git"  # Of a linked worktree.
]

UNFINISHED = re.compile(
    r"NotImplementedError|\b(?:TODO|FIXME|XXX|HACK)\b|pragma: no cover"
    r"|type: ignore(?!\[)|except Exception:\s*(?:pass|\.\.\.)"
)

# In pieces, so that this file does not hold one.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|root|home)" + r"/\w")


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_has_one_subject(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_left_unfinished(path: Path) -> None:
    assert UNFINISHED.findall(path.read_text()) == []


def test_no_file_knows_a_machine() -> None:
    assert [str(path) for path in EVERYWHERE if MACHINE_PATH.search(path.read_text())] == []


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # type: ignore",
        "raise NotImplementedError",
        "# TODO: later",
        "except Exception:\n    pass",
    ],
)
def test_what_is_unfinished_is_found(text: str) -> None:
    assert UNFINISHED.search(text)
    assert not UNFINISHED.search("x = f()  # type: ignore[arg-type]")


def test_a_path_of_a_machine_is_found() -> None:
    assert MACHINE_PATH.search("see /" + "work/main")
    assert not MACHINE_PATH.search("tests/" + "work/main and https://example.com/" + "home")
