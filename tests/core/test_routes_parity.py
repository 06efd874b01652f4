"""The compiled route table and its twin choose the same, for the same reasons."""

import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import routes as compiled
from spooky._core.pure import routes as pure
from spooky._core.pure.routes import Rule

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

MASK = (1 << 64) - 1

LABELS = st.lists(st.sampled_from([b"a", b"b", b"com", b"x-1", b"xn--9"]), min_size=1, max_size=4)
HOSTS = st.none() | st.tuples(st.sampled_from([b"", b"*."]), LABELS).map(
    lambda parts: parts[0] + b".".join(parts[1])
)
SEGMENTS = st.sampled_from([b"", b"a", b"b", b"%2F", b"%61", b"long-segment-of-bytes"])
PREFIXES = st.none() | st.lists(SEGMENTS, max_size=5).map(lambda s: b"/" + b"/".join(s))
METHODS = st.sampled_from([None, b"GET", b"POST", b"LONG-METHOD"])
RULES = st.lists(st.builds(lambda *key: Rule(str(key), *key, key), HOSTS, PREFIXES, METHODS))

ANY_HOST = HOSTS.map(lambda host: host or b"") | st.binary(max_size=20)
ANY_PATH = PREFIXES.map(lambda prefix: prefix or b"") | st.binary(max_size=20)
ANY_METHOD = METHODS.map(lambda method: method or b"") | st.binary(max_size=8)
REQUESTS = st.lists(st.tuples(ANY_HOST, ANY_PATH, ANY_METHOD), min_size=1, max_size=8)


def build_table(build: ModuleType, rules: list[Rule]) -> Any:
    """Return the table, or the names of the rules in conflict."""
    try:
        return build.RouteTable(rules)
    except build.RouteConflict as conflict:
        return (conflict.first, conflict.second)


@given(rules=RULES, requests=REQUESTS)
def test_both_builds_agree(rules: list[Rule], requests: list[tuple[bytes, bytes, bytes]]) -> None:
    table, expected = build_table(compiled, rules), build_table(pure, rules)
    if isinstance(expected, tuple):
        assert table == expected
        return
    assert len(table) == len(expected)
    for request in requests:
        assert table.lookup(*request) == expected.lookup(*request)
        found, explained = table.explain(*request), expected.explain(*request)
        assert found.candidates == explained.candidates
        assert found.decided_by == explained.decided_by


def test_both_builds_agree_on_a_large_table() -> None:
    """A large table fills the hash index: its probes must find every edge and no other."""
    numbers = random.Random(7)
    rules = [
        Rule(
            str(index),
            numbers.choice(
                [None, b"h%d.example" % numbers.randrange(99), b"*.w%d.io" % (index % 7)]
            ),
            b"/%x/%x/%x" % (index % 37, numbers.randrange(1 << 20), index),
            numbers.choice([None, b"GET"]),
            index,
        )
        for index in range(5000)
    ]
    table, expected = compiled.RouteTable(rules), pure.RouteTable(rules)
    for it in rules:
        host = (it.host or b"any").replace(b"*", b"a.b")
        for path in (it.path_prefix, it.path_prefix + b"/x", it.path_prefix + b"0"):
            assert table.lookup(host, path, b"GET") == expected.lookup(host, path, b"GET")
        assert table.lookup(host, it.path_prefix, b"GET") == it.target


@pytest.mark.parametrize("arguments", [(None, b"/", b"GET"), ("h", b"/", b"GET"), (b"h", b"/", 1)])
def test_a_lookup_takes_bytes_only(arguments: tuple[object, ...]) -> None:
    table = compiled.RouteTable([])
    with pytest.raises(TypeError):
        table.lookup(*arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        table.explain(*arguments)  # type: ignore[arg-type]


def test_a_forged_hash_collision_is_no_match() -> None:
    """A client who makes a segment with the hash of a configured one does not reach its route.

    The first half is changed at will, and the second makes up for it.
    """

    def scramble(value: int) -> int:
        value = ((value ^ (value >> 32)) * 0xD6E8FEB86659FD93) & MASK
        return value ^ (value >> 32)

    def after_first_half(word: bytes) -> int:
        return scramble((16 * 0x9E3779B97F4A7C15 & MASK) ^ int.from_bytes(word, "little"))

    first, second = b"internal", b"-metrics"
    for number in range(1000):
        other = b"%08d" % number
        word = after_first_half(first) ^ after_first_half(other) ^ int.from_bytes(second, "little")
        forged = other + word.to_bytes(8, "little")
        if b"/" not in forged:
            break
    table = compiled.RouteTable([Rule("it", None, b"/" + first + second, None, "it")])
    assert table.lookup(b"a", b"/" + first + second, b"GET") == "it"
    assert table.lookup(b"a", b"/" + forged, b"GET") is None
