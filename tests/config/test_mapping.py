"""Configurations from Python mappings, for embedding."""

from collections import OrderedDict
from pathlib import Path

import pytest
import yaml

from spooky.config import ConfigurationError, diagnose_mapping, from_mapping, load_text
from spooky.config.document import MAX_DEPTH
from tests.config.support import GOOD


def good():
    return yaml.safe_load(GOOD)


def test_a_mapping_means_what_the_text_means():
    assert from_mapping(good()) == load_text(GOOD)


def test_paths_tuples_and_other_mappings_are_taken():
    mapping = good()
    mapping["listen"] = OrderedDict(mapping["listen"])
    mapping["listen"]["tls"]["cert"] = Path("cert.pem")
    mapping["upstream"]["api"]["backends"] = tuple(mapping["upstream"]["api"]["backends"])
    assert from_mapping(mapping) == load_text(GOOD)


def test_text_is_never_taken_for_something_else():
    """YAML's rules are for YAML."""
    mapping = good()
    mapping["log"]["file"]["path"] = "no"
    assert from_mapping(mapping).log.file.path == "no"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"x", "a Python bytes"),
        (object(), "a Python object"),
        ({1, 2}, "a Python set"),
        pytest.param(10**6000, "the number 0x", id="huge"),
        (True, "true"),
    ],
)
def test_wrong_values_are_named(value, found):
    mapping = good()
    mapping["log"]["level"] = value
    with pytest.raises(ConfigurationError) as caught:
        from_mapping(mapping)
    (problem,) = caught.value.problems
    assert found in problem.message
    assert (problem.file, problem.line, problem.path) == ("<mapping>", None, "log.level")


def test_a_mapping_that_holds_itself_is_refused():
    mapping = good()
    mapping["log"]["file"] = mapping["log"]
    with pytest.raises(ConfigurationError, match="nested more than 32 deep"):
        from_mapping(mapping)


def test_the_nesting_limit_is_that_of_files():
    def nested(depth):
        return {"x": nested(depth - 1)} if depth else 1

    for depth, refused in ((MAX_DEPTH, False), (MAX_DEPTH + 1, True)):
        found = [problem.message for problem in diagnose_mapping(nested(depth)).problems]
        assert any("nested more than" in message for message in found) == refused


def test_embedded_applications_are_known_by_name():
    mapping = good()
    mapping["upstream"]["web"]["backends"][0]["address"] = "app:site"
    assert from_mapping(mapping, apps={"site": object()}).upstream["web"]
    with pytest.raises(ConfigurationError, match="no application is embedded"):
        from_mapping(mapping)
