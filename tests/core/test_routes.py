"""What a route table chooses, in both builds."""

import itertools
import time
from collections.abc import Sequence
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import routes as compiled
from spooky._core.pure import routes as pure
from spooky._core.pure.routes import Rule

BUILDS = [pure, compiled] if _core.COMPILED else [pure]


@pytest.fixture(params=BUILDS, ids=lambda build: "compiled" if build is compiled else "pure")
def routes(request: pytest.FixtureRequest) -> ModuleType:
    return request.param  # type: ignore[no-any-return]


def rule(
    name: str, host: bytes | None = None, path: bytes | None = None, method: bytes | None = None
) -> Rule:
    return Rule(name, host, path, method, name)


def chosen(
    routes: ModuleType,
    rules: Sequence[Rule],
    host: bytes = b"example.com",
    path: bytes = b"/",
    method: bytes = b"GET",
) -> object:
    return routes.RouteTable(rules).lookup(host, path, method)


# --- the reference's precedence ---------------------------------------------------------------
PRECEDENCE = [
    (rule("long", None, b"/api/v1"), rule("short", b"a.example.com", b"/api"), "path_length"),
    (rule("host", b"*.example.com", b"/api"), rule("any", None, b"/api"), "host_specific"),
    (
        rule("exact", b"a.example.com", b"/api"),
        rule("wildcard", b"*.example.com", b"/api", b"GET"),
        "exact_host",
    ),
    (
        rule("longer", b"*.example.com", b"/api"),
        rule("shorter", b"*.com", b"/api", b"GET"),
        "wildcard_length",
    ),
    (
        rule("method", b"a.example.com", b"/api", b"GET"),
        rule("every", b"a.example.com", b"/api"),
        "method_specific",
    ),
]


@pytest.mark.parametrize(("better", "worse", "decided_by"), PRECEDENCE, ids=lambda p: str(p))
def test_the_better_rule_wins_whatever_the_order(
    routes: ModuleType, better: Rule, worse: Rule, decided_by: str
) -> None:
    request = (b"a.example.com", b"/api/v1/users", b"GET")
    for rules in ([better, worse], [worse, better]):
        table = routes.RouteTable(rules)
        assert table.lookup(*request) == better.name
        explanation = table.explain(*request)
        assert explanation.rule is better
        assert explanation.decided_by == decided_by
        assert explanation.candidates == [better, worse]


def test_no_match_and_only_match_are_said(routes: ModuleType) -> None:
    table = routes.RouteTable([rule("only", path=b"/a")])
    assert table.lookup(b"x", b"/b", b"GET") is None
    assert table.explain(b"x", b"/b", b"GET").decided_by == "no_match"
    assert table.explain(b"x", b"/b", b"GET").rule is None
    assert table.explain(b"x", b"/a", b"GET").decided_by == "only_match"


def test_a_shorter_path_serves_what_the_longer_ones_methods_do_not(routes: ModuleType) -> None:
    rules = [rule("write", path=b"/api/v1", method=b"POST"), rule("read", path=b"/api")]
    assert chosen(routes, rules, path=b"/api/v1", method=b"POST") == "write"
    assert chosen(routes, rules, path=b"/api/v1", method=b"GET") == "read"


# --- paths ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prefix", "path", "matches"),
    [
        (b"/api", b"/api", True),
        (b"/api", b"/api/", True),
        (b"/api", b"/api/x", True),
        (b"/api", b"/apix", False),
        (b"/api", b"/ap", False),
        (b"/api", b"/API", False),
        (b"/api/", b"/api", True),
        (b"/api//", b"/api/x", True),
        (b"/", b"/anything", True),
        (None, b"/anything", True),
        (b"/", b"", True),
        (b"/", b"*", True),  # OPTIONS *: the asterisk form has no path (RFC 9110 section 7.1).
        (b"/api", b"*", False),
        (b"/api", b"xapi/api", False),
        (b"/a//b", b"/a//b/c", True),
        (b"/a//b", b"/a/b", False),
        (b"/a/b", b"/a//b", False),
        (b"//a", b"//a", True),
        (b"//a", b"/a", False),
        (b"/a/b", b"/a%2Fb", False),
        (b"/a%2Fb", b"/a%2Fb/c", True),
        (b"/a%2Fb", b"/a/b", False),
        (b"/%61pi%7e", b"/api~/x", True),
        (b"/caf%C3%A9", b"/caf%C3%A9", True),
    ],
)
def test_a_path_prefix_matches_whole_raw_segments(
    routes: ModuleType, prefix: bytes | None, path: bytes, matches: bool
) -> None:
    found = chosen(routes, [rule("it", path=prefix)], path=path)
    assert found == ("it" if matches else None)


@pytest.mark.parametrize("prefix", [b"api", b"", b"/a?b=c", b"/a#b", b"/a/../b", b"/a/%2e"])
def test_a_path_prefix_that_can_match_nothing_is_refused(prefix: bytes) -> None:
    with pytest.raises(ValueError, match="path prefix"):
        rule("it", path=prefix)


# --- hosts ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        (b"example.com", b"example.com", True),
        (b" EXAMPLE.com:8443 ", b"example.com", True),
        (b"example.com..", b"example.com", True),
        (b"example.com", b"a.example.com", False),
        (b"example.com", b"example.co", False),
        (b"*.Example.com.", b"a.example.com", True),
        (b"*.example.com", b"a.b.example.com", True),
        (b"*.example.com", b"example.com", False),
        (b"*.example.com", b".example.com", False),
        (b"*.example.com", b"aexample.com", False),
        (b"*.example.com", b"a.example.org", False),
        (b"[::1]:443", b"[::1]", True),
        (b"192.0.2.1", b"192.0.2.1", True),
        (None, b"", True),
    ],
)
def test_a_host_matches(
    routes: ModuleType, pattern: bytes | None, host: bytes, matches: bool
) -> None:
    found = chosen(routes, [rule("it", host=pattern)], host=host)
    assert found == ("it" if matches else None)


@pytest.mark.parametrize(
    "host",
    [b"", b"*", b"*.", b"a.*.com", b"*a.com", b"**.com", b"::1", b"http://a", b"a..b", b":1"],
)
def test_a_host_that_can_match_nothing_is_refused(host: bytes) -> None:
    with pytest.raises(ValueError, match="host"):
        rule("it", host=host)


def test_nested_wildcards_fall_back_to_the_shorter_one(routes: ModuleType) -> None:
    rules = [rule("com", b"*.com", b"/a"), rule("example", b"*.example.com", b"/b")]
    assert chosen(routes, rules, b"x.example.com", b"/a") == "com"
    assert chosen(routes, rules, b"x.example.com", b"/b") == "example"
    assert chosen(routes, rules, b"example.com", b"/b") is None


# --- methods ----------------------------------------------------------------------------------
def test_methods_of_rules_are_uppercase_and_requests_are_as_sent(routes: ModuleType) -> None:
    rules = [rule("it", method=b" get ")]
    assert chosen(routes, rules, method=b"GET") == "it"
    assert chosen(routes, rules, method=b"get") is None  # RFC 9110 section 9.1: case-sensitive.
    assert chosen(routes, [rule("every", method=b"")], method=b"PURGE") == "every"


def test_a_method_is_not_taken_for_a_segment(routes: ModuleType) -> None:
    rules = [rule("get", path=b"/a", method=b"GET")]
    assert chosen(routes, rules, path=b"/a/GET", method=b"POST") is None
    assert chosen(routes, [rule("path", path=b"/a/GET")], path=b"/a", method=b"GET") is None


# --- the table --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rule("a", b"Example.com:80", b"/x/"), rule("b", b"example.com.", b"/x")),
        (rule("a", b"*.example.com"), rule("b", b"*.EXAMPLE.com", b"/")),
        (rule("a", None, b"/x", b"get"), rule("b", None, b"/%78", b"GET")),
        (rule("same"), rule("same")),
    ],
)
def test_rules_for_the_same_requests_are_refused(
    routes: ModuleType, one: Rule, other: Rule
) -> None:
    with pytest.raises(routes.RouteConflict) as caught:
        routes.RouteTable([rule("between", path=b"/y"), one, other])
    assert (caught.value.first, caught.value.second) == (one.name, other.name)
    assert one.name in str(caught.value)


def test_one_rule_twice_is_refused_too(routes: ModuleType) -> None:
    it = rule("it")
    with pytest.raises(routes.RouteConflict):
        routes.RouteTable([it, it])


def test_an_empty_table_matches_nothing(routes: ModuleType) -> None:
    table = routes.RouteTable([])
    assert len(table) == 0
    assert table.lookup(b"a", b"/", b"GET") is None


def test_a_lookup_returns_the_target_itself(routes: ModuleType) -> None:
    target = object()
    table = routes.RouteTable([Rule("it", None, None, None, target)])
    assert table.lookup(b"a", b"/", b"GET") is target


HOSTS = [None, b"*.com", b"*.a.com", b"*.b.a.com", b"a.com", b"b.a.com", b"c.b.a.com", b"[::1]"]
PATHS = [b"/", b"/a", b"/a/b", b"/a//b", b"//a", b"/ab", b"/a%2Fb", b"/a/b/c/d"]
METHODS = [None, b"GET", b"POST"]
EVERY_RULE = list(itertools.product(HOSTS, PATHS, METHODS))

RULES = st.lists(st.sampled_from(EVERY_RULE), unique=True, max_size=40).map(
    lambda keys: [rule(f"r{index}", *key) for index, key in enumerate(keys)]
)
HOST = st.sampled_from([b"com", b"a.com", b"b.a.com", b"c.b.a.com", b"x.com", b".a.com", b"[::1]"])
PATH = st.lists(st.sampled_from([b"a", b"b", b"ab", b"a%2Fb", b"c", b"d", b""]), max_size=6).map(
    lambda segments: b"/" + b"/".join(segments)
)
METHOD = st.sampled_from([b"GET", b"POST", b"get", b"PUT"])


def matches(it: Rule, host: bytes, path: bytes, method: bytes) -> bool:
    """Say by comparing strings whether a rule matches, as the reference words it."""
    prefix = it.path_prefix.rstrip(b"/")
    if it.host is not None and it.host.startswith(b"*"):
        host_fits = host.endswith(it.host[1:]) and len(host) > len(it.host[1:])
    else:
        host_fits = it.host in (None, host)
    path_fits = path == prefix or path.startswith(prefix + b"/")
    return host_fits and path_fits and it.method in (None, method)


def rank(it: Rule) -> tuple[object, ...]:
    """Return the reference's precedence, the smallest first, name included."""
    wildcard = it.host is not None and it.host.startswith(b"*")
    return (
        -len(it.path_prefix),
        it.host is None,
        wildcard,
        -len(it.host or b"") if wildcard else 0,
        it.method is None,
        it.name,
    )


@given(rules=RULES, host=HOST, path=PATH, method=METHOD, data=st.data())
@pytest.mark.parametrize("build", BUILDS)
def test_a_lookup_agrees_with_comparing_every_rule(
    build: ModuleType,
    rules: list[Rule],
    host: bytes,
    path: bytes,
    method: bytes,
    data: st.DataObject,
) -> None:
    expected = sorted((it for it in rules if matches(it, host, path, method)), key=rank)
    table = build.RouteTable(data.draw(st.permutations(rules)))
    assert table.lookup(host, path, method) == (expected[0].name if expected else None)
    assert table.explain(host, path, method).candidates == expected


def test_hostile_hosts_and_paths_cost_no_more_than_their_length(routes: ModuleType) -> None:
    deep = b"/a" * 2000
    rules = [rule("deep", b"*." + b"a." * 100 + b"com", deep), rule("empty", b"*.com", b"//////x")]
    table = routes.RouteTable([*rules, rule("any")])
    requests = [
        (b"a." * 32_000 + b"com", deep + b"/b", b"GET"),
        (b"." * 64_000 + b"com", b"/" * 64_000, b"GET"),
        (b"a" * 64_000 + b".com", b"/" + b"a" * 64_000, b"G" * 64_000),
    ]
    started = time.process_time()
    for _ in range(5):
        for request in requests:
            assert table.lookup(*request) is not None
    assert time.process_time() - started < 1.0  # Quadratic work would take over ten seconds.


def test_rules_can_be_added_one_by_one(routes: ModuleType) -> None:
    table = routes.RouteTable()
    many = [rule(f"{n}", b"h%d.example" % (n // 10), b"/a/%d" % n, b"GET") for n in range(1000)]
    for number, one in enumerate(many):
        assert len(table) == number
        table.add(one)
    for n, one in enumerate(many):
        assert table.lookup(b"h%d.example" % (n // 10), b"/a/%d" % n, b"GET") == one.name
    with pytest.raises(routes.RouteConflict):
        table.add(rule("again", b"h3.example", b"/a/30", b"GET"))
