"""The page about benchmarking names all that can be chosen."""

from pathlib import Path

import pytest

from spooky.bench.scenarios import SCENARIOS
from spooky.cli.bench import command

PAGE = Path("docs/benchmarking.md").read_text()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_described(name: str) -> None:
    assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize("name", ["run", "micro"])
def test_every_option_is_told_about(name: str) -> None:
    options = {
        option
        for parameter in command.commands[name].params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert {option for option in options if option not in PAGE} == set()
