"""What a worker is told of a change, with what it has, is the whole configuration."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import config
from spooky.config.schema import Configuration
from spooky.edge.reduced import ReductionError, reduced, restored

NAMES = [f"upstream-{number}" for number in range(4)]


def loaded(weights: Mapping[str, int], paths: list[str]) -> Configuration:
    """Return a configuration with these upstreams, and a route to the first for each path."""
    settings: dict[str, Any] = {
        "listen": {"tls": {"cert": "cert.pem", "key": "key.pem"}},
        "upstream": {
            name: {
                "route": {"host": f"{name}.example"},
                "backends": [{"id": "b", "address": "http://127.0.0.1:1", "weight": weight}],
            }
            for name, weight in weights.items()
        },
        "routes": [{"path_prefix": f"/{path}", "upstream": next(iter(weights))} for path in paths],
    }
    return config.from_mapping(settings)


configurations = st.builds(
    loaded,
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), min_size=1),
    st.lists(st.sampled_from("abcdef"), unique=True),
)


@given(configurations, configurations)
def test_what_is_told_and_what_is_known_are_the_whole(
    wanted: Configuration, known: Configuration
) -> None:
    told, base = reduced(wanted, 7, known)
    whole = restored(told, base, known)
    assert whole == wanted
    assert list(whole.upstream) == list(wanted.upstream)
    for name, upstream in whole.upstream.items():
        if known.upstream.get(name) == upstream and name not in told.upstream:
            assert upstream is known.upstream[name]


def test_only_what_differs_is_told() -> None:
    known = loaded({"a": 1, "b": 1, "c": 1}, ["x", "y", "z"])
    told, base = reduced(loaded({"a": 1, "b": 2, "c": 1}, ["x", "new", "z"]), 7, known)
    assert list(told.upstream) == ["b"]
    assert [route.path_prefix for route in told.routes] == ["/new"]
    assert (base.first_routes, base.last_routes) == (1, 1)


def test_what_was_reduced_against_another_configuration_is_refused() -> None:
    known = loaded({"a": 1, "b": 1}, ["x", "y"])
    told, base = reduced(known, 7, known)
    for other in (loaded({"a": 1}, ["x", "y"]), loaded({"a": 1, "b": 1}, [])):
        with pytest.raises(ReductionError):
            restored(told, base, other)
