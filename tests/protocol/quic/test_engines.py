"""The table of QUIC engines."""

import pytest

from spooky.protocol.quic.engines import AIOQUIC, ENGINES, Feature, chosen_engine


def test_an_engine_is_chosen_by_name_and_the_best_without() -> None:
    assert chosen_engine("aioquic") is AIOQUIC
    assert chosen_engine(None) is list(ENGINES.values())[-1]
    with pytest.raises(KeyError):
        chosen_engine("quiche")


def test_names_are_those_of_the_table() -> None:
    assert all(engine.name == name for name, engine in ENGINES.items())


def test_every_feature_is_had_or_lacking_for_a_reason() -> None:
    for engine in ENGINES.values():
        assert set(engine.lacks) <= set(Feature)
        assert all(engine.lacks.values())
    assert set(Feature) - set(AIOQUIC.lacks) == {Feature.ONE_TIME_TICKETS}
