"""What a worker is told of a change, with what it has, is the whole configuration."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import config
from spooky.config.schema import Configuration
from spooky.edge.reduced import (
    ROUTES_OF_A_PORTION,
    UPSTREAMS_OF_A_PORTION,
    Base,
    ReductionError,
    reduced,
    restoring,
)
from spooky.runtime.in_turns import at_once

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


def restored(told: Configuration, base: Base, known: Configuration) -> Configuration:
    """Return the whole again, at once."""
    return at_once(restoring(told, base, known))


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
    assert (base.first_routes, base.last_routes) == (1, 1)
    (portion,) = base.portions
    assert b"/new" in portion
    assert b"/x" not in portion


def test_what_is_told_is_read_in_portions() -> None:
    upstreams, routes = 3 * UPSTREAMS_OF_A_PORTION + 1, 2 * ROUTES_OF_A_PORTION
    before, after = (
        loaded(
            {f"u{n}": weight for n in range(upstreams)}, [f"{weight}-{n}" for n in range(routes)]
        )
        for weight in (1, 2)
    )
    told, base = reduced(after, 7, before)
    assert len(told.upstream) == 1
    assert told.routes == ()
    assert len(base.portions) == 3 + 2
    # One for each, and one to put them together.
    assert sum(1 for _ in restoring(told, base, before)) == 6


def test_a_portion_that_cannot_be_read_is_refused() -> None:
    known = loaded({"a": 1, "b": 1}, ["x", "y"])
    told, base = reduced(loaded({"a": 2, "b": 2}, []), 7, known)
    for data in (b"", b"\xc1", b"\x81\xa3new\x01", base.portions[0][:-1]):
        with pytest.raises(ReductionError):
            restored(told, Base(7, base.upstreams, 0, 0, (data,)), known)


def test_what_was_reduced_against_another_configuration_is_refused() -> None:
    known = loaded({"a": 1, "b": 1}, ["x", "y"])
    told, base = reduced(known, 7, known)
    for other in (loaded({"a": 1}, ["x", "y"]), loaded({"a": 1, "b": 1}, [])):
        with pytest.raises(ReductionError):
            restored(told, base, other)
