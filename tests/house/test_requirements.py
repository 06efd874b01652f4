"""What the build and the suite install is pinned, with hashes, to what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from dependency_groups import resolve
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import FOLDER, SETS

PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+) (\\\n    --hash=sha256:[0-9a-f]{64} ?)+")


def pins(name: str) -> dict[str, str]:
    text = (FOLDER / f"{name}.txt").read_text()
    found = list(PIN.finditer(text))
    unpinned = PIN.sub("", text).strip().splitlines()
    # What pip-compile says of a package that pip itself needs.
    assert [line for line in unpinned if not line.startswith("#")] == []
    return {canonicalize_name(pin["name"]): pin["version"] for pin in found}


def asked(name: str) -> list[Requirement]:
    project = tomllib.loads(Path("pyproject.toml").read_text())
    groups = resolve(project["dependency-groups"], *SETS[name])
    return [Requirement(line) for line in (*project["project"]["dependencies"], *groups)]


@pytest.mark.parametrize("name", SETS)
def test_every_requirement_is_pinned_within_its_range(name: str) -> None:
    pinned = pins(name)
    wrong = [
        str(requirement)
        for requirement in asked(name)
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert wrong == [], "run `make lock`"


def test_a_package_has_one_version_in_all_sets() -> None:
    suite = pins("suite")
    for name in ("runtime", "build"):
        pinned = pins(name)
        assert pinned == {package: suite[package] for package in pinned}
