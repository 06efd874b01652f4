"""Pages that come from the source are those that the source gives now."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.suite import PARTS


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("spooky.config.reference", "docs/configuration.md"),
        ("spooky.observe.reasons_page", "docs/reasons.md"),
        ("spooky.control.plan_page", "docs/operations/hazards.md"),
    ],
)
def test_a_generated_page_is_current(module: str, page: str) -> None:
    made = subprocess.check_output([sys.executable, "-m", module], text=True)
    assert Path(page).read_text() == made, "run `make docs`"


def test_contributing_states_the_budget_of_every_part_of_the_suite() -> None:
    text = Path("CONTRIBUTING.md").read_text()
    rows = [f"| `{part.target}` | {part.budget_s:,} s |" for part in PARTS]
    assert [row for row in rows if row not in text] == []
    assert sum(part.budget_s for part in PARTS) <= 40 * 60
