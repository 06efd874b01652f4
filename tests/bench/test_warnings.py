"""What makes a run's figures doubtful is said."""

import pytest

from spooky import _core

if not _core.COMPILED:
    pytest.skip("the load generator is not compiled", allow_module_level=True)

from spooky.bench.campaign import Options, setup_of, summary, warnings_of
from spooky.bench.plan import UNFINISHED, LoadResult
from spooky.bench.scenarios import SCENARIOS

SMALL = SCENARIOS["small"]
SETUP = setup_of(SMALL, Options((SMALL,), rate=1000.0))


def warnings(*errors: dict[str, int]) -> list[str]:
    rounds = [LoadResult(seconds=1.0, requests=990, errors=each) for each in errors]
    return warnings_of(SETUP, summary(SMALL, "spooky", rounds))


def test_a_stall_in_one_round_of_many_is_warned_of() -> None:
    failed, unfinished = warnings({}, {}, {UNFINISHED: 10}, {}, {})
    assert failed == "spooky: 1.0% failed in the worst round; in all: unfinished (10)"
    assert unfinished.startswith("spooky: 10 requests had no answer when their round ended")


def test_a_share_of_failures_that_is_next_to_nothing_is_not_warned_of() -> None:
    few = LoadResult(seconds=1.0, requests=10_000, errors={"status 503": 1})
    assert warnings_of(SETUP, summary(SMALL, "spooky", [few])) == []
