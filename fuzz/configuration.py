"""Configuration files: whatever the bytes, there is a configuration or a list of what is wrong.

The first byte chooses: the rest is a whole file; or it is put in the place of one value of a good
file, or below a key of it. Every problem has a text, a place that is in the file, and no
configuration beside an error. What is good stays good when it is said again as plain values.
"""

from collections.abc import Iterator

import msgspec

from spooky.config.document import decode
from spooky.config.loading import diagnose_mapping, diagnose_text
from spooky.config.problems import Severity
from spooky.config.report import Report
from tests.config.support import GOOD, minimal

LINES = GOOD.splitlines()
WHOLE = 0x80


def seeds() -> Iterator[bytes]:
    """Yield files, and values that are of some other kind than expected."""
    yield bytes((WHOLE,)) + GOOD.encode()
    yield bytes((WHOLE,)) + minimal().encode()
    for text in (
        "a: &x [*x]", "a: &x 1\nb: *x\n<<: {c: 1}", "- - - - - a", "? [a]\n: b", "!!python/none x",
        "---\na: 1\n---\nb: 2", "\ufeffversion: 1", "a: 'b\n c'", "{a: 1, a: 2}", "a: \"\\u0000\"",
        "%YAML 1.2\n---\na: 1", "a:\n\t- b", "version: 2", "a: 2001-01-01", "a: 1_000", "a: .inf",
    ):  # fmt: skip
        yield bytes((WHOLE,)) + text.encode()
    values = (
        "5",
        "-1",
        "1e99",
        "null",
        "[]",
        "{}",
        "~",
        "'x'",
        "0x10",
        "1:30",
        "yes",
        "'*.example'",
        "http://[::1]:80",
        "0.0.0.0:443",
        "999999999999999999999",
        "\xff",
        "a b: c",
        "*",
        "{a: b}",
    )
    for number, line in enumerate(LINES):
        if not line.endswith(":"):
            yield bytes((number,)) + values[number % len(values)].encode()


def text_of(data: bytes) -> str | None:
    """Return the file that an input stands for."""
    choice, rest = (data[0], data[1:]) if data else (WHOLE, b"")
    if choice & WHOLE:
        return decode(rest, Report("fuzz"))
    lines = list(LINES)
    number = choice % len(lines)
    key, colon, _ = lines[number].partition(":")
    lines[number] = f"{key}{colon} {rest.decode('utf-8', 'replace')}"
    return "\n".join(lines)


def run(data: bytes) -> None:
    """Read a file, and what came of it once more."""
    text = text_of(data)
    if text is None:
        return
    diagnosis = diagnose_text(text, "fuzz")
    lines = text.count("\n") + text.count("\r") + text.count("\u2028") + text.count("\x85") + 2
    for problem in diagnosis.problems:
        assert problem.message
        assert problem.line is None or 1 <= problem.line <= lines + text.count("\u2029")
        assert problem.column is None or problem.column >= 1
        assert str(problem)
    errors = [each for each in diagnosis.problems if each.severity is Severity.ERROR]
    assert (diagnosis.configuration is None) == bool(errors)
    if diagnosis.configuration is None:
        return
    plain = msgspec.to_builtins(diagnosis.configuration)
    again = diagnose_mapping(plain)
    assert again.configuration == diagnosis.configuration, again.problems
