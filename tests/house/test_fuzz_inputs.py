"""What is kept for fuzzing: enough for each target, and no more than every clone can bear."""

from collections import defaultdict
from pathlib import Path

TARGETS = {path.stem for path in Path("fuzz").glob("*.py") if path.stem[0] != "_"}

WITHOUT_WORDS = {"exchanges", "packet_numbers", "quic_streams"}
"""Each byte of their inputs chooses a step."""

KEPT_MIN, KEPT_MAX = 5, 24
"""Inputs of a target: the suite runs all of them, on twins and under sanitizers too."""

BYTES_MAX = 1 << 20
"""All corpora and dictionaries together."""


def test_every_target_begins_from_a_few_small_inputs_and_from_the_words_of_its_language() -> None:
    kept: dict[str, list[Path]] = defaultdict(list)
    for path in Path("fuzz/corpus").rglob("*.bin"):
        kept[path.parent.name].append(path)
    assert set(kept) == TARGETS
    counts = {name: len(paths) for name, paths in kept.items()}
    assert {name for name, count in counts.items() if not KEPT_MIN <= count <= KEPT_MAX} == set()
    dictionaries = list(Path("fuzz/dictionaries").iterdir())
    assert {path.stem for path in dictionaries} == TARGETS - WITHOUT_WORDS
    files = [*dictionaries, *(path for paths in kept.values() for path in paths)]
    assert sum(path.stat().st_size for path in files) <= BYTES_MAX
