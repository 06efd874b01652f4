"""Whatever is done to a good configuration, it is read or its problems have places."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from spooky.config import Configuration, Severity, diagnose_mapping, diagnose_text
from tests.config.support import GOOD

LINES = GOOD.splitlines()

FRAGMENTS = st.sampled_from(
    [
        "", "no", "~", "0", "-1", "1e3", "[]", "{}", "[", "{", "- ", ": ", "&a ", "*a", "<<: ",
        "!!str ", "!x ", "'", '"', "|\n", "#", "\t", "  ", "---", "...", "%YAML 9.9\n", "? ",
        "\u00e4", "\U0001f600", "\u2028", "\x85", "\x00", "\x7f", "999999999999999999999", ".nan",
        "0o7", "1:30", "2020-01-01", "backends", "upstream", "app:x", "unix:/x", "http://[", "*.",
    ]
)  # fmt: skip


def assert_sound(text):
    """Whatever was read is as its types say; whatever was refused has a place in the text."""
    diagnosis = diagnose_text(text, "x.yaml")
    lines = text.count("\n") + text.count("\u2028") + text.count("\x85") + text.count("\r") + 2
    for problem in diagnosis.problems:
        assert problem.message
        assert problem.line is not None
        assert problem.column is not None
        assert 1 <= problem.line <= lines
        assert problem.column >= 1
        assert all(c.isprintable() for c in problem.message + problem.path)
    if diagnosis.configuration is None:
        assert any(p.severity is Severity.ERROR for p in diagnosis.problems)
    else:
        plain = msgspec.to_builtins(diagnosis.configuration)
        assert msgspec.convert(plain, Configuration) == diagnosis.configuration


@given(st.data())
@settings(max_examples=300)
def test_a_mutated_text_is_read_or_refused_with_places(data):
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.integers(0, 4)):
            case 0:
                lines.insert(i, lines[data.draw(st.integers(0, len(lines) - 1))])
            case 1:
                lines[i] = ""
            case 2:
                at = data.draw(st.integers(0, len(lines[i])))
                lines[i] = lines[i][:at] + data.draw(FRAGMENTS) + lines[i][at:]
            case 3:
                key, colon, _ = lines[i].partition(":")
                lines[i] = key + colon + " " + data.draw(FRAGMENTS)
            case 4:
                lines[i] = data.draw(st.sampled_from(["", "  ", "    "])) + lines[i].lstrip()
    assert_sound("\n".join(lines))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_places(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert_sound(text)


KEYS = st.sampled_from(
    ["listen", "listeners", "upstream", "api", "route", "backends", "tls", "port", "id", "address",
     "load_balancing", "type", "performance", "resilience", "protocol", "log", "level", "x", ""]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.binary(max_size=3) | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_odd_mapping_is_refused(mapping):
    problems = diagnose_mapping(mapping).problems
    assert problems
    assert all(problem.line is None for problem in problems)
