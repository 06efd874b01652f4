"""The difference of two configurations: complete, by identity, without secrets, and empty when
nothing differs."""

import copy
import re
from typing import Annotated, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from spooky.config import Configuration, from_mapping
from spooky.config.difference import SECRET, Change, ChangeKind, difference, difference_of
from spooky.config.fields import Section, described
from spooky.config.files import describe_files
from spooky.config.inventory import (
    SETTINGS,
    Inventory,
    Object,
    Row,
    inventory,
    rows_of,
    schema_leaves,
)
from tests import certificates
from tests.config.support import DELETE, GOOD, edited

BASE: dict[str, Any] = yaml.safe_load(GOOD)
BASE["listeners"] = [BASE.pop("listen")]
BASE["listeners"][0]["tls"]["certificates"][0]["client_auth"] = {"enabled": False}
BASE["upstream"]["api"]["backends"][0]["health_check"] = {"expected_body": "fine"}
BASE["upstream"]["web"]["slow_start"] = {"window_ms": 10_000}
BASE["routes"] = [
    {"host": "routes.example", "method": "PUT", "path_prefix": "/", "upstream": "api"}
]
BASE.setdefault("resilience", {})["route_queue"] = {"caps": {"api": 5}}
BASE["upstream"]["api"]["retry"] = {"tries": 2}
BASE["resilience"]["retry_budget"] = {"per_route_ratio_percent": {"api": 30}}
BASE.setdefault("observability", {})["control_api"] = {
    "tls": {"client_auth": {"mode": "required", "ca_file": "callers.pem"}},
    "auth": {
        "bearer_tokens": [{"actor_id": "ci", "token_file": "ci.token"}],
        "certificates": [{"name": "ops.example"}],
    },
}


def configuration(mapping: dict[str, Any]) -> Configuration:
    return from_mapping(copy.deepcopy(mapping))


def changed(*edits: tuple[str, Any]) -> tuple[Change, ...]:
    """Return the changes that edits of ``BASE`` make."""
    return difference(configuration(BASE), configuration(edited(BASE, *edits)))


# --- completeness -----------------------------------------------------------------------------
def place_of(leaf: str) -> str:
    """Return the path of a leaf in ``BASE``, with slashes."""
    # Hashing, as ``api`` does, knows no slow start.
    name = "/web" if ".slow_start" in leaf else "/api"
    return leaf.replace(".<name>", name).replace("[]", "/0").replace(".", "/")


def other_value(leaf: str) -> Any:
    """Return a valid value of a leaf that ``BASE`` does not have there."""
    place: Any = msgspec.to_builtins(configuration(BASE))
    for step in place_of(leaf).split("/"):
        place = place[int(step) if step.isdigit() else step]
    type_ = type_of(leaf)
    match type_:
        case inspect.BoolType():
            return not place
        case inspect.IntType() | inspect.FloatType():
            return type_.ge if place != type_.ge else type_.ge + 1
        case inspect.LiteralType():
            canonical = [msgspec.convert(value, str, strict=False) for value in type_.values]
            return next(value for value in canonical if value not in (place, "rr", "ch"))
        case inspect.VarTupleType(item_type=item):
            literal = bare(item)
            if isinstance(literal, inspect.LiteralType):
                return place[:-1] or [value for value in literal.values if value not in place]
            if isinstance(literal, inspect.IntType):
                return [*place, literal.le]
            return [*(place or ()), "/zzz"]
    return f"{place}x" if place else "/x"


def type_of(leaf: str) -> inspect.Type:
    """Return the type that the schema gives a leaf, bare."""
    type_: inspect.Type = inspect.type_info(Configuration)
    for step in re.findall(r"[a-z_0-9]+|<name>|\[\]", leaf):
        type_ = bare(type_)
        match type_:
            case inspect.StructType():
                (type_,) = (field.type for field in type_.fields if field.name == step)
            case inspect.DictType():
                type_ = type_.value_type
            case inspect.VarTupleType():
                type_ = type_.item_type
    return bare(type_)


def bare(type_: inspect.Type) -> inspect.Type:
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if isinstance(type_, inspect.UnionType):
        return bare(next(one for one in type_.types if not isinstance(one, inspect.NoneType)))
    return type_


def is_section(leaf: str) -> bool:
    return isinstance(type_of(leaf), inspect.StructType)


ONE_VALUE = {"version", "listeners[].protocol"}
"""Leaves that can have only one value."""

LEAVES = [
    leaf.path
    for leaf in schema_leaves()
    if leaf.path not in ONE_VALUE and not is_section(leaf.path)
]
IDENTITIES = {leaf.path for leaf in schema_leaves() if leaf.identity}


def unchecked(mapping: dict[str, Any]) -> Configuration:
    """Return a configuration by its types alone: the rules are about other things."""
    return msgspec.convert(mapping, Configuration)


def with_other(leaves: list[str]) -> Configuration:
    mapping = msgspec.to_builtins(configuration(BASE))
    for leaf in leaves:
        *way, last = place_of(leaf).split("/")
        place = mapping
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = other_value(leaf)
    return unchecked(mapping)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_change_of_any_setting_of_the_schema_is_found(leaf):
    """A key that is added to the schema is compared without anybody thinking of it."""
    changes = difference(configuration(BASE), with_other([leaf]))
    assert changes
    kinds = {change.kind for change in changes}
    if leaf in IDENTITIES:
        assert kinds == {ChangeKind.ADDED, ChangeKind.REMOVED}
    else:
        assert kinds == {ChangeKind.CHANGED}
        # All routes are one table, wherever they stand.
        leaf = leaf.replace("upstream.<name>.route.", "routes[].")
        assert leaf in {change.path for change in changes}


def applied(before: Inventory, changes: tuple[Change, ...]) -> Inventory:
    """Return an inventory after changes; of what is added, only what is not a default."""
    after = {each: dict(rows) for each, rows in before.items()}
    for change in changes:
        if change.key:
            after[change.object].pop(change.key, None)
            if change.kind is not ChangeKind.REMOVED:
                after[change.object][change.key] = Row(change.path, change.new)
        elif change.kind is ChangeKind.REMOVED:
            del after[change.object]
        else:
            after[change.object] = {one.key: Row("", one.value) for one in change.settings}
    return after


def meaning(found: Inventory) -> dict[Object, dict[str, Any]]:
    return {
        each: {key: row.value for key, row in rows.items() if not row.default}
        for each, rows in found.items()
    }


@given(st.lists(st.sampled_from(LEAVES), unique=True, max_size=8))
def test_changes_applied_to_the_old_give_the_new(leaves):
    old, new = configuration(BASE), with_other(leaves)
    for before, after in ((old, new), (new, old)):
        left = meaning(applied(inventory(before), difference(before, after)))
        right = inventory(after)
        assert left.keys() == right.keys()
        for each, rows in right.items():
            for key, row in rows.items():
                assert left[each].get(key, row.value) == row.value


@given(st.lists(st.sampled_from(LEAVES), unique=True, max_size=8))
def test_equal_configurations_do_not_differ_and_the_order_is_always_the_same(leaves):
    old, new = configuration(BASE), with_other(leaves)
    assert difference(new, with_other(leaves)) == ()
    assert difference(old, new) == difference(old, new)
    there = difference(old, new)
    back = difference(new, old)
    assert [(one.object, one.key) for one in there] == [(one.object, one.key) for one in back]
    assert [(one.old, one.new) for one in there] == [(one.new, one.old) for one in back]


# --- what has no meaning ----------------------------------------------------------------------
@given(st.randoms(use_true_random=False))
def test_an_order_that_means_nothing_makes_no_difference(random):
    mapping = copy.deepcopy(BASE)
    second = copy.deepcopy(mapping["listeners"][0])
    second["port"] = 9443
    second["tls"]["certificates"].append({"server_name": "b.test", "cert": "b", "key": "b.key"})
    mapping["listeners"].append(second)
    before = configuration(mapping)

    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, shuffle(below)) for key, below in value.items()]
            random.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            value = [shuffle(below) for below in value]
            random.shuffle(value)
        return value

    assert difference(before, configuration(shuffle(mapping))) == ()


@pytest.mark.parametrize(
    "edits",
    [
        [("log/level", "info"), ("performance/global_inflight_limit", 4096)],
        [("upstream/web/load_balancing", {"type": "lc"})],
        [("upstream/web/tls", {})],
        [("upstream/web/backends/0/address", "https://backend.example.com:443")],
        [("upstream/api/route/path_prefix", "/v1/")],
        [("resilience/protocol/allowed_methods", ["POST", "get", "GET"])],
        [("listeners", DELETE), ("listen", BASE["listeners"][0])],
        [("listen", {"tls": {"cert": "unused", "key": "unused"}})],
    ],
)
def test_other_words_for_the_same_make_no_difference(edits):
    assert changed(*edits) == ()


def test_without_a_default_certificate_the_first_is_the_default_and_its_order_counts():
    one, two = ({"server_name": f"{n}.test", "cert": n, "key": f"{n}.key"} for n in "ab")

    def with_certificates(*given):
        mapping = copy.deepcopy(BASE)
        mapping["listeners"][0]["tls"] = {"certificates": list(given)}
        return configuration(mapping)

    changes = difference(with_certificates(one, two), with_certificates(two, one))
    assert {str(change.object) for change in changes} == {"certificate 127.0.0.1:8443 (default)"}
    assert [(change.key, change.old, change.new) for change in changes] == [
        ("cert", "a", "b"),
        ("key", "a.key", "b.key"),
    ]


def test_listeners_on_a_free_port_are_told_apart():
    mapping = copy.deepcopy(BASE)
    mapping["listeners"] = [{**BASE["listeners"][0], "port": 0}] * 2
    names = [each.name for each in inventory(configuration(mapping)) if each.kind == "listener"]
    assert names == ["127.0.0.1:0", "127.0.0.1:0 (2)"]


# --- identity ---------------------------------------------------------------------------------
def test_a_backend_is_its_upstream_and_id():
    changes = changed(
        ("upstream/api/backends/0/weight", 50),
        ("upstream/api/backends/1/id", "api-3"),
    )
    assert [(c.kind.value, str(c.object), c.key, c.old, c.new) for c in changes] == [
        ("changed", "backend api api-1", "weight", 100, 50),
        ("removed", "backend api api-2", "", None, None),
        ("added", "backend api api-3", "", None, None),
    ]
    assert [(s.key, s.value) for s in changes[2].settings] == [
        ("address", "https://[2001:db8::1]:8443")
    ]


def test_a_route_is_its_host_prefix_and_method_and_may_move_to_another_upstream():
    mapping = copy.deepcopy(BASE)
    mapping["upstream"]["renamed"] = mapping["upstream"].pop("web")
    routes = [
        change
        for change in difference(configuration(BASE), configuration(mapping))
        if change.object.kind == "route"
    ]
    (route,) = routes
    assert (str(route.object), route.key, route.old, route.new) == (
        "route */", "upstream", "web", "renamed"
    )  # fmt: skip


def test_what_upstreams_inherit_is_said_of_each_that_inherits_it():
    changes = changed(("load_balancing/type", "random"))
    assert [(str(c.object), c.key, c.new) for c in changes] == [
        ("upstream web", "load_balancing.type", "random"),
        ("settings", "load_balancing.type", "random"),
    ]


# --- files ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority():
    return certificates.ca()


def files_of(authority, **more: bytes):
    """Return facts of the files of ``BASE``: each call makes another certificate."""
    leaf = certificates.leaf(["a.example"], authority)
    return describe_files({"cert.pem": leaf.certificate_pem, "key.pem": leaf.key_pem, **more})


def test_a_renewed_certificate_at_the_same_path_is_another_fingerprint(authority):
    base = configuration(BASE)
    old, new = files_of(authority), files_of(authority)
    changes = difference(base, base, old, new)
    assert [(str(c.object), c.key) for c in changes] == [
        ("certificate 127.0.0.1:8443 (default)", "fingerprint"),
        ("certificate 127.0.0.1:8443 (default)", "key.sha256"),
    ]
    assert (changes[0].old, changes[0].new) == (
        old["cert.pem"].certificate.fingerprint, new["cert.pem"].certificate.fingerprint
    )  # fmt: skip
    assert (changes[1].old, changes[1].new) == (SECRET, SECRET)
    assert difference(base, base, old, old) == ()


def test_another_intermediate_is_found_though_the_certificate_is_the_same(authority):
    base = configuration(BASE)
    leaf = certificates.leaf(["a.example"], authority)
    old = describe_files({"cert.pem": leaf.certificate_pem})
    new = describe_files({"cert.pem": leaf.certificate_pem + authority.certificate_pem})
    assert [change.key for change in difference(base, base, old, new)] == ["chain"]


def test_the_content_of_authorities_and_client_certificates_is_compared(authority):
    base = configuration(BASE)
    old = files_of(authority, **{"ca.pem": b"1", "client.pem": b"1", "client.key": b"1"})
    new = {
        **old,
        **describe_files({"ca.pem": b"2", "client.pem": b"2", "client.key": b"2"}),
    }
    changes = difference(base, base, old, new)
    assert [(str(change.object), change.key) for change in changes] == [
        ("listener 127.0.0.1:8443", "tls.client_auth.ca_file.sha256"),
        ("upstream api", "tls.ca_file.sha256"),
        ("upstream api", "tls.client_certificate.sha256"),
        ("upstream api", "tls.client_key.sha256"),
    ]
    assert changes[-1].new == SECRET


def test_a_file_that_one_side_cannot_read_is_no_difference(authority):
    base = configuration(BASE)
    assert difference(base, base, {}, files_of(authority)) == ()


# --- secrets ----------------------------------------------------------------------------------
class Login(Section, frozen=True):
    """Optional section with a secret."""

    token: Annotated[str, described("A secret.", secret=True)] = ""


class Guarded(Section, frozen=True):
    """Secrets in every form that a schema can have them."""

    password: Annotated[str | None, described("A secret.", secret=True)] = None
    keys: Annotated[tuple[str, ...], described("Secrets.", secret=True)] = ()
    login: Annotated[Login | None, described("May be absent.")] = None
    logins: Annotated[dict[str, Login], described("By name.")] = {}  # noqa: RUF012


TEXTS = st.text(alphabet="zqxj", min_size=8, max_size=12)
GUARDED = st.builds(
    Guarded,
    password=st.none() | TEXTS,
    keys=st.lists(TEXTS, max_size=2).map(tuple),
    login=st.none() | st.builds(Login, token=TEXTS),
    logins=st.dictionaries(st.just("ada"), st.builds(Login, token=TEXTS)),
)


@given(GUARDED, GUARDED)
def test_secrets_are_compared_and_never_shown(old, new):
    before, after = ({SETTINGS: rows_of(one, "")} for one in (old, new))
    changes = difference_of(before, after)
    assert bool(changes) == (old != new)
    shown = msgspec.json.encode((changes, difference_of({}, after), difference_of(before, {})))
    assert re.search(rb"[zqxj]{8}", shown) is None


def test_an_optional_section_that_goes_takes_its_settings_along():
    before, after = ({SETTINGS: rows_of(Guarded(login=login), "")} for login in (Login("t"), None))
    assert [(c.kind.value, c.key, c.old, c.new) for c in difference_of(before, after)] == [
        ("changed", "login", "given", None),
        ("removed", "login.token", SECRET, None),
    ]
