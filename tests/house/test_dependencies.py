"""``docs/dependencies.md`` explains every dependency, and none that is gone."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.house.test_imports import SOURCES, imports

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|", re.M)
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def declared() -> dict[str, str]:
    """Return the version range of every dependency in ``pyproject.toml``."""
    groups = PROJECT["dependency-groups"].values()
    extras = PROJECT["project"]["optional-dependencies"].values()
    requirements = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(entry for extra in extras for entry in extra),
        *(entry for group in groups for entry in group if isinstance(entry, str)),
    ]
    ranges: dict[str, str] = {}
    for requirement in requirements:
        name = NAME.match(requirement)[0]
        version = requirement.removeprefix(name) or "any"
        assert ranges.setdefault(name, version) == version, f"{name} has two ranges"
    return ranges


def test_every_dependency_is_explained_with_its_range() -> None:
    assert dict(ROW.findall(Path("docs/dependencies.md").read_text())) == declared()


def test_run_time_dependencies_are_those_that_the_source_imports() -> None:
    homes = packages_distributions()
    roots = {module.split(".")[0] for path in SOURCES for module in imports(path)}
    imported = {
        homes[root][0].lower()
        for root in roots - sys.stdlib_module_names - {"spooky", "cython", "cpython", "libc"}
    }
    assert imported == {NAME.match(line)[0] for line in PROJECT["project"]["dependencies"]}


def test_debian_packages_are_explained() -> None:
    makefile = Path("Makefile").read_text()
    packages = re.findall(r"^\w+_PACKAGES := (.*)$", makefile, re.M)
    page = Path("docs/dependencies.md").read_text()
    assert packages
    assert [name for line in packages for name in line.split() if f"`{name}`" not in page] == []
