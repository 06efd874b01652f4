"""docs/security/matrix.md names tests that exist, one row for each attack in order."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path("docs/security/matrix.md")
ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]+) \|$", re.MULTILINE)
ATTACKS = 40


def named() -> list[str]:
    return sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE.read_text())))


def test_every_attack_has_its_row() -> None:
    rows = [int(number) for number, _ in ROW.findall(PAGE.read_text())]
    assert rows == list(range(1, ATTACKS + 1))


@pytest.mark.parametrize(("number", "without"), ROW.findall(PAGE.read_text()))
def test_an_attack_is_said_without_its_limit_too_or_has_none(number: str, without: str) -> None:
    assert re.match("`tests/[^`]+::|no number: ", without), f"row {number}"


@pytest.mark.parametrize("name", named())
def test_the_test_of_a_row_exists(name: str) -> None:
    file, *parts = name.split("::")
    body: list[ast.stmt] = ast.parse(Path(file).read_text()).body
    for part in parts:
        found = [
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == part
        ]
        assert found, f"{part} is not in {file}"
        body = found[0].body
