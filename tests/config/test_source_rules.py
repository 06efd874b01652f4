"""``performance.source_rules``: an action and a network each; the first that matches holds."""

import pytest

from tests.config.support import minimal, problems
from tests.config.test_rules import check


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("[⟦block 192.0.2.0/24]", "does not begin with what is done"),
        ("[⟦drop]", "is not a network"),
        ("[⟦drop 192.0.2.1/24]", "is not a network"),
        ("[⟦drop example.com]", "is not a network"),
        ("[⟦'drop ::fffe:0:0/95']", "has all IPv4 addresses in it"),
        ("['retry ::ffff:192.0.2.0/120', ⟦drop 192.0.2.1]", "a rule before it has them all"),
        ("[drop 192.0.0.0/8, ⟦allow 192.0.2.1]", "a rule before it has them all"),
        ("[retry 0.0.0.0/0, ⟦drop 192.0.2.1]", "a rule before it has them all"),
    ],
)
def test_a_rule_that_says_nothing_is_an_error(rules: str, words: str) -> None:
    number = rules.count(",")
    text = minimal(more=f"performance:\n  source_rules: {rules}\n")
    check(text, f"performance.source_rules[{number}]", words)


def test_rules_that_overlap_otherwise_are_none() -> None:
    rules = "[allow 192.0.2.1, drop 192.0.2.0/24, 'retry ::/0', drop 0.0.0.0/0]"
    assert not problems(minimal(more=f"performance:\n  source_rules: {rules}\n"))
