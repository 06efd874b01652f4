"""What stands behind the wheel is written down, may be used, and builds to the same bytes again."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.house.test_requirements import pins
from tools import sbom
from tools.build_wheel import build

ALLOWED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MIT",
    "MIT-0",
    "MPL-2.0",  # of certifi alone, which we do not change
    "PSF-2.0",
    "Python-2.0",
}
"""Licenses that let anyone pass Spooky on with what it needs; none asks for our source."""

BY_CLASSIFIER = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What packages say that give no SPDX identifier."""


def licenses(component: dict[str, Any]) -> set[str]:
    """Return the licenses that hold together for a package; of a choice, one that is allowed."""
    found = set()
    for entry in component.get("licenses", ()):
        if "expression" in entry:
            for part in entry["expression"].split(" AND "):
                choice = part.strip("()").split(" OR ")
                found.add(next((name for name in choice if name in ALLOWED), part))
        else:
            named = entry["license"]
            found.add(named.get("id") or BY_CLASSIFIER.get(named["name"], named["name"]))
    return found


@pytest.fixture(scope="module")
def document(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("sbom") / "spooky.cdx.json"
    sbom.write(wheel, path)
    return json.loads(path.read_text())


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_the_sbom_names_what_is_locked_and_nothing_else(document: Any) -> None:
    found = {canonicalize_name(part["name"]): part["version"] for part in document["components"]}
    assert found == pins("runtime")
    assert document["metadata"]["component"]["name"] == "spooky"


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_every_package_has_a_license_that_lets_it_be_passed_on(document: Any) -> None:
    held = {part["name"]: licenses(part) for part in document["components"]}
    assert {name: found for name, found in held.items() if not found or found - ALLOWED} == {}


@pytest.mark.soak
def test_the_same_commit_gives_the_same_wheel_in_two_folders(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        clone = tmp_path / name
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(clone)
            wheel = build(tmp_path / f"{name}-dist")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
        shutil.rmtree(clone)
    assert len(digests) == 1
