"""What every fuzz target begins from passes: its seeds, and what is kept of earlier runs.

The sanitized build runs these too.
"""

import importlib
from pathlib import Path

import pytest

from fuzz import decision_records
from spooky.observe.decisions import decode

TARGETS = sorted(path.stem for path in Path("fuzz").glob("*.py") if path.stem[0] != "_")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_kept_inputs_pass(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    seeds = list(target.seeds())
    assert len(seeds) >= 5
    for seed in seeds:
        target.run(seed)
    for path in sorted(Path("fuzz/corpus", name).glob("*.bin")):
        target.run(path.read_bytes())


def test_records_that_a_target_begins_from_are_read() -> None:
    """Else it would fuzz only what refuses them."""
    for count in range(3):
        assert decode(1, decision_records.record(count, count)) is not None
