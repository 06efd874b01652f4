"""Plans: what each change takes, what is kept, what is hazardous, and their JSON."""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky.config import from_mapping
from spooky.config.difference import Change, ChangeKind
from spooky.config.inventory import Object, ObjectKind
from spooky.control import hazard_rules
from spooky.control.effects import OUTCOMES, Effect, Reach
from spooky.control.hazard_rules import LIMITS
from spooky.control.hazards import HAZARDS
from spooky.control.plan import Held, Plan, PlanError, Pool, Snapshot, decode, encode, plan
from spooky.generation.materials import Materials
from tests import certificates
from tests.config.support import DELETE, edited

NOW = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)

BASE: dict[str, Any] = yaml.safe_load("""\
listeners:
  - port: 8443
    tls:
      cert: cert.pem
      key: key.pem
      client_auth: {enabled: true, require_client_cert: true, ca_file: ca.pem}
      certificates: [{server_name: a.test, cert: a.pem, key: a.key}]
  - port: 9443
    tls: {cert: cert.pem, key: key.pem}
upstream:
  api:
    route: {host: api.test, path_prefix: /v1}
    backends:
      - {id: api-1, address: "https://10.0.0.1"}
      - {id: api-2, address: "https://10.0.0.2"}
      - {id: api-3, address: "https://10.0.0.3"}
      - {id: api-4, address: "https://10.0.0.4"}
  web:
    route: {path_prefix: /}
    backends:
      - {id: web-1, address: "http://10.0.1.1"}
      - {id: web-2, address: "http://10.0.1.2"}
performance: {max_request_body_bytes: 1000}
resilience: {protocol: {allowed_methods: [GET, POST], denied_path_prefixes: [/admin, /internal]}}
""")


def snapshot(mapping: dict[str, Any], files: Mapping[str, bytes] | None = None) -> Snapshot:
    return Snapshot(from_mapping(mapping), Materials(files or {}, b""), 7)


def planned(*edits: tuple[str, Any]) -> Plan:
    return plan(snapshot(BASE), snapshot(edited(BASE, *edits)), NOW)


def hazards(*edits: tuple[str, Any]) -> list[tuple[str, str]]:
    return [(one.code, str(one.object)) for one in planned(*edits).hazards]


def test_a_plan_says_how_long_what_drains_has():
    bound = ("performance/shutdown_drain_timeout_ms", 3000)
    assert planned(("upstream/api/backends/3", DELETE), bound).drain_seconds == 3.0
    assert planned(("performance/worker_threads", 2), bound).drain_seconds == 3.0
    assert planned(("listeners/1", DELETE), bound).drain_seconds == 3.0
    # It says nothing of what is cut where nothing is.
    assert planned(("upstream/api/backends/0/weight", 7), bound).drain_seconds is None
    assert planned(bound).drain_seconds is None


# --- effects ----------------------------------------------------------------------------------
def effect_of(*edits: tuple[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (str(one.object), one.key, one.effect.value, one.reach.value)
        for one in planned(*edits).changes
    ]


def test_without_changes_there_is_nothing_to_do():
    empty = planned()
    assert (empty.changes, empty.hazards, empty.effect) == ((), (), None)
    assert empty.generation == 7
    assert empty.drained == Held()
    assert len(empty.kept.pools) == 6
    assert empty.kept.listeners == ("0.0.0.0:8443", "0.0.0.0:9443")


def test_a_weight_is_live_and_disturbs_no_connection():
    found = planned(("upstream/api/backends/0/weight", 50))
    assert [(one.effect, one.reach) for one in found.changes] == [(Effect.LIVE, Reach.REQUESTS)]
    assert found.drained == Held()
    assert found.effect is Effect.LIVE


def test_an_address_drains_the_pool_of_that_backend_alone():
    found = planned(("upstream/api/backends/0/address", "https://10.0.0.9"))
    assert [one.effect for one in found.changes] == [Effect.DRAINS]
    assert found.drained == Held((), (Pool("api", "api-1", "https://10.0.0.1:443", "auto"),))
    assert len(found.kept.pools) == 5
    assert len(found.kept.listeners) == 2


def test_a_drained_backend_keeps_its_pool_and_a_disabled_one_drains_it():
    found = planned(("upstream/api/backends/0/state", "drained"))
    assert [one.effect for one in found.changes] == [Effect.LIVE]
    assert found.drained == Held()
    found = planned(("upstream/api/backends/0/state", "disabled"))
    assert [one.effect for one in found.changes] == [Effect.DRAINS]
    assert found.drained == Held((), (Pool("api", "api-1", "https://10.0.0.1:443", "auto"),))


def test_what_is_removed_drains_and_what_is_added_is_live():
    assert effect_of(("upstream/web/backends/1", {"id": "new", "address": "http://10.0.1.3"})) == [
        ("backend web new", "", "live", "new requests"),
        ("backend web web-2", "", "drains", "new requests"),
    ]


def test_a_pool_is_kept_when_its_backend_is_renamed_and_shared_origins_go_on():
    """A pool is its origin, protocol and TLS identity, whoever refers to it."""
    found = planned(("upstream/api/backends/0/id", "renamed"))
    assert found.drained == Held()
    assert Pool("api", "api-1", "https://10.0.0.1:443", "auto") in found.kept.pools


def test_tls_settings_drain_the_pools_that_speak_tls_and_no_others():
    found = planned(("upstream_tls", {"strict_sni": False}))
    assert [(str(one.object), one.key, one.effect) for one in found.changes] == [
        ("upstream api", "tls.strict_sni", Effect.DRAINS),
        ("upstream web", "tls.strict_sni", Effect.LIVE),
        ("settings", "upstream_tls.strict_sni", Effect.LIVE),
    ]
    assert {pool.upstream for pool in found.drained.pools} == {"api"}


def test_another_content_of_an_authority_file_drains_its_pools():
    mapping = edited(BASE, ("upstream/api/tls", {"ca_file": "ca.pem"}))
    found = plan(snapshot(mapping, {"ca.pem": b"1"}), snapshot(mapping, {"ca.pem": b"2"}), NOW)
    drains = [one for one in found.changes if one.effect is Effect.DRAINS]
    assert [(str(one.object), one.key) for one in drains] == [
        ("upstream api", "tls.ca_file.sha256")
    ]
    assert {pool.upstream for pool in found.drained.pools} == {"api"}


def test_a_listener_that_goes_drains_its_connections():
    found = planned(("listeners", BASE["listeners"][:1]))
    assert found.kept.listeners == ("0.0.0.0:8443",)
    assert found.drained.listeners == ("0.0.0.0:9443",)


@pytest.mark.parametrize(("key", "value"), [("quic_engine", "aioquic"), ("worker_threads", 2)])
def test_what_is_fixed_when_a_process_starts_is_rolling_and_keeps_no_connection(key, value):
    found = planned((f"performance/{key}", value), ("upstream/api/backends/0/weight", 1))
    assert found.effect is Effect.ROLLING
    assert found.kept == Held()
    assert len(found.drained.pools) == 6
    assert len(found.drained.listeners) == 2


def test_a_route_that_leads_elsewhere_is_live():
    mapping = edited(BASE)
    mapping["upstream"]["site"] = mapping["upstream"].pop("web")
    found = plan(snapshot(BASE), snapshot(mapping), NOW)
    (route,) = (one for one in found.changes if one.object.kind is ObjectKind.ROUTE)
    assert (route.old, route.new, route.effect) == ("web", "site", Effect.LIVE)
    assert found.drained == Held()


# --- hazards ----------------------------------------------------------------------------------
NO_CATCH_ALL = ("upstream/web/route", {"host": "web.test"})


def test_a_catch_all_that_disappears():
    assert hazards(NO_CATCH_ALL) == [("catch_all_removed", "route */")]
    other = {"route": {"path_prefix": "/"}, "backends": [{"id": "o", "address": "http://o"}]}
    assert hazards(NO_CATCH_ALL, ("upstream/other", other)) == []


def test_a_route_without_a_successor_and_one_with_another_upstream():
    moved = ("upstream/api/route", {"host": "new.test"})
    assert hazards(moved) == [("route_taken_over", "route api.test/v1")]
    (found,) = planned(moved).hazards
    assert found.text == "requests that go to api by this route now go to web"
    assert ("route_unmatched", "route api.test/v1") in hazards(moved, NO_CATCH_ALL)


def test_a_wildcard_and_a_method_are_probed_as_what_they_match():
    wide = edited(BASE, ("upstream/api/route", {"host": "*.test", "method": "PUT"}), NO_CATCH_ALL)
    narrow = edited(BASE, ("upstream/api/route", {"host": "x.test", "method": "PUT"}), NO_CATCH_ALL)
    found = plan(snapshot(wide), snapshot(narrow), NOW).hazards
    assert [(one.code, one.object.name) for one in found] == [("route_unmatched", "*.test/ PUT")]
    assert plan(snapshot(narrow), snapshot(wide), NOW).hazards == ()


def test_a_route_whose_requests_the_same_upstream_still_takes_is_no_hazard():
    assert hazards(("upstream/api/route", {"host": "api.test"})) == []


@pytest.mark.parametrize(
    ("weights", "halved"),
    [
        ((100, 100, 100, 100), False),
        ((50, 50, 50, 50), False),  # The proportions are the same.
        ((100, 100, 100, 1), False),
        ((100, 98, 1, 1), True),
        ((1, 1, 1, 97), True),
        ((100, 100), True),
        ((100, 100, 100), False),
        ((400,), True),
    ],
)
def test_an_upstream_that_loses_half_of_its_capacity(weights, halved):
    backends = [
        {"id": f"api-{n}", "address": f"https://10.0.0.{n}", "weight": weight}
        for n, weight in enumerate(weights, 1)
    ]
    found = hazards(("upstream/api/backends", backends))
    assert (("capacity_halved", "upstream api") in found) == halved


@pytest.mark.parametrize("state", ["drained", "disabled"])
def test_a_backend_that_takes_no_requests_is_no_capacity(state: str) -> None:
    count = len(BASE["upstream"]["api"]["backends"])
    every = [(f"upstream/api/backends/{number}/state", state) for number in range(count)]
    assert ("last_backend_removed", "upstream api") in hazards(*every)
    assert ("capacity_halved", "upstream api") in hazards(*every[1:])
    assert hazards(every[-1]) == []


def test_the_sentence_about_capacity_says_how_much_is_left():
    found = planned(("upstream/api/backends", BASE["upstream"]["api"]["backends"][:1])).hazards
    assert [one.text for one in found] == [
        "api keeps 25 % of its capacity",
        "all upstreams together keep 50 % of their capacity",
    ]


def test_backends_replaced_by_as_many_others_are_no_loss_but_none_is_kept():
    replaced = [{"id": f"new-{n}", "address": f"https://10.0.2.{n}"} for n in range(4)]
    assert hazards(("upstream/api/backends", replaced)) == [
        ("last_backend_removed", "upstream api")
    ]


def test_the_whole_that_loses_half_of_its_capacity():
    assert hazards(("upstream/api", DELETE)) == [
        ("route_taken_over", "route api.test/v1"),
        ("last_backend_removed", "upstream api"),
        ("total_capacity_halved", "settings"),
    ]
    assert ("total_capacity_halved", "settings") not in hazards(("upstream/web", DELETE))


def test_outlier_detection_that_is_switched_off():
    off = ("upstream/api/outlier_detection", {"enabled": False})
    assert hazards(off) == [("outlier_detection_off", "upstream api")]
    assert hazards(("upstream/api/outlier_detection", {"interval_ms": 1000})) == []


@pytest.mark.parametrize(
    ("section", "code"),
    [
        ("circuit_breaker", "circuit_breaker_off"),
        ("adaptive_admission", "adaptive_admission_off"),
        ("brownout", "brownout_off"),
    ],
)
def test_a_protection_from_overload_that_is_switched_off(section, code):
    on, off = (
        snapshot(edited(BASE, (f"resilience/{section}", {"enabled": enabled})))
        for enabled in (True, False)
    )
    assert [(one.code, str(one.object)) for one in plan(on, off, NOW).hazards] == [
        (code, "settings")
    ]
    assert plan(off, on, NOW).hazards == ()


def test_a_health_check_that_is_dropped():
    backend = Object(ObjectKind.BACKEND, "api", "api-1")
    dropped = Change(
        kind=ChangeKind.CHANGED, object=backend, key="health_check",
        path=hazard_rules.HEALTH_CHECK, old="given", new=None,
    )  # fmt: skip
    side = hazard_rules.Side(from_mapping(BASE), {})
    (found,) = hazard_rules.find_hazards(side, side, [dropped], NOW)
    assert found.code == "health_check_removed"
    added = msgspec.structs.replace(dropped, old=None, new="given")
    assert hazard_rules.find_hazards(side, side, [added], NOW) == ()


@pytest.mark.parametrize(
    ("edit", "lifted"),
    [
        (("performance/max_request_body_bytes", None), True),
        (("performance/max_request_body_bytes", 9_999), False),
        (("performance/max_request_body_bytes", 10_000), True),
        (("performance/max_request_body_bytes", 1), False),
        (("performance/max_response_body_bytes", 1), False),
        (("performance/global_inflight_limit", 1_000_000), True),
        (("performance/backend_timeout_ms", 30_000), False),
        (("performance/client_min_response_bytes_per_sec", None), True),
        (("performance/client_min_response_bytes_per_sec", 24), True),
        (("performance/client_min_response_bytes_per_sec", 25), False),
        (("performance/client_min_stream_bytes_per_sec", 1), False),
        (("performance/client_rate_grace_ms", 600_000), True),
        (("resilience/protocol/allowed_methods", []), True),
        (("resilience/protocol/allowed_methods", ["GET"]), False),
        (("resilience/protocol/denied_path_prefixes", ["/admin"]), True),
        (("resilience/protocol/denied_path_prefixes", ["/admin", "/internal", "/x"]), False),
        (("resilience/protocol/enforce_authority_host_match", False), True),
        (("resilience/protocol/underscores_in_headers", "pass"), True),
        (("resilience/protocol/underscores_in_headers", "reject"), False),
    ],
)
def test_a_limit_that_is_lifted(edit, lifted):
    assert hazards(edit) == ([("limit_lifted", "settings")] if lifted else [])


def test_retry_that_is_switched_off_is_a_limit_lifted():
    before = snapshot(BASE)
    never = snapshot(edited(BASE, ("performance/quic_retry", "never")))
    (found,) = plan(before, never, NOW).hazards
    assert found.text == "performance.quic_retry goes from auto to never"
    assert plan(never, before, NOW).hazards == ()


def test_rules_that_kept_sources_out_and_go_are_a_limit_lifted():
    rules = ["allow 192.0.2.1", "drop 192.0.2.0/24", "retry 0.0.0.0/0"]
    before = snapshot(edited(BASE, ("performance/source_rules", rules)))
    fewer = snapshot(edited(BASE, ("performance/source_rules", rules[:2])))
    (found,) = plan(before, fewer, NOW).hazards
    assert found.code == "limit_lifted"
    assert plan(fewer, before, NOW).hazards == ()


def test_limits_are_settings_of_the_schema():
    assert set(OUTCOMES) >= LIMITS


@pytest.mark.parametrize(
    "client_auth",
    [{"enabled": True, "ca_file": "ca.pem"}, {"enabled": False}],
)
def test_client_authentication_that_is_weakened(client_auth):
    found = set(hazards(("listeners/0/tls/client_auth", client_auth)))
    assert found == {("client_auth_weakened", "listener 0.0.0.0:8443")}
    stronger = {"enabled": True, "require_client_cert": True, "ca_file": "ca.pem"}
    assert hazards(("listeners/1/tls/client_auth", stronger)) == []


CLOSED = {"enabled": True, "require_client_cert": True, "ca_file": "ca.pem"}
A_TEST = {"server_name": "a.test", "cert": "a.pem", "key": "a.key"}
WEAKENED = ("client_auth_weakened", "certificate 0.0.0.0:8443 a.test")


def auth_of(listener: Any, *names: tuple[str, Any]) -> tuple[str, Any]:
    """Return an edit of what the first listener asks clients for, and its names."""
    certificates = [{**A_TEST, "server_name": name, "client_auth": own} for name, own in names]
    tls = {"cert": "cert.pem", "key": "key.pem", "certificates": certificates}
    return "listeners/0/tls", {**tls, "client_auth": listener or {}}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (auth_of(None, ("a.test", CLOSED)), auth_of(None, ("a.test", None)), True),
        (auth_of(None, ("a.test", CLOSED)), auth_of(None, ("a.test", {"enabled": False})), True),
        (
            auth_of(None, ("a.test", CLOSED)),
            auth_of(None, ("a.test", {**CLOSED, "require_client_cert": False})),
            True,
        ),
        (auth_of(CLOSED, ("a.test", None)), auth_of(CLOSED, ("a.test", {})), True),
        (auth_of(CLOSED), auth_of(CLOSED, ("a.test", {})), True),
        (
            auth_of(None, ("*.test", CLOSED)),
            auth_of(None, ("*.test", CLOSED), ("a.test", {})),
            True,
        ),
        (auth_of(None, ("a.test", None)), auth_of(None, ("a.test", CLOSED)), False),
        (auth_of(CLOSED, ("a.test", None)), auth_of(CLOSED, ("a.test", CLOSED)), False),
        (auth_of(CLOSED, ("a.test", {})), auth_of(CLOSED, ("a.test", None)), False),
    ],
)
def test_client_authentication_of_a_name_that_is_weakened(before, after, found):
    old, new = (snapshot(edited(BASE, one)) for one in (before, after))
    weakened = [(one.code, str(one.object)) for one in plan(old, new, NOW).hazards]
    assert weakened == [WEAKENED] * found


def test_client_authentication_of_a_name_goes_with_its_certificate():
    old, new = (
        snapshot(edited(BASE, auth_of(None, *names))) for names in ([("a.test", CLOSED)], [])
    )
    found = {one.code for one in plan(old, new, NOW).hazards}
    assert found == {"certificate_removed", "client_auth_weakened"}


def test_client_authentication_of_a_name_is_live_for_new_connections():
    edit = ("listeners/0/tls/certificates/0/client_auth", {**CLOSED, "ca_file": "other.pem"})
    found = {(key, effect, reach) for _, key, effect, reach in effect_of(edit)}
    assert found == {
        (f"client_auth{key}", Effect.LIVE.value, Reach.CLIENT_CONNECTIONS.value)
        for key in ("", ".enabled", ".require_client_cert", ".ca_file")
    }


@pytest.mark.skipif(not _core.COMPILED, reason="only the native engine takes early data")
def test_early_data_that_is_taken():
    allowed = ("resilience/protocol/allow_0rtt", True)
    (found,) = plan(snapshot(BASE), snapshot(edited(BASE, allowed)), NOW).hazards
    assert found.code == "early_data_allowed"
    assert plan(snapshot(edited(BASE, allowed)), snapshot(BASE), NOW).hazards == ()


def test_backends_that_are_not_verified_any_more():
    assert hazards(("upstream/api/tls", {"verify_certificates": False})) == [
        ("backend_verification_off", "upstream api")
    ]


def test_a_listener_and_a_certificate_that_are_removed():
    assert hazards(("listeners", BASE["listeners"][:1])) == [
        ("listener_removed", "listener 0.0.0.0:9443")
    ]
    assert hazards(("listeners/0/tls/certificates", [])) == [
        ("certificate_removed", "certificate 0.0.0.0:8443 a.test")
    ]


@pytest.mark.parametrize(
    ("address", "port", "refused"),
    [("0.0.0.0", 9443, False), ("::", 9443, False), ("::", 9444, True), ("10.0.0.2", 9443, True)],
)
def test_a_listener_that_widens_to_all_addresses_refuses_nobody(address, port, refused):
    before = snapshot(edited(BASE, ("listeners/1/address", "10.0.0.1")))
    after = snapshot(edited(BASE, ("listeners/1/address", address), ("listeners/1/port", port)))
    codes = [one.code for one in plan(before, after, NOW).hazards]
    assert codes == (["listener_removed"] if refused else [])


def test_a_certificate_that_changes_loses_names_and_expires():
    authority = certificates.ca()

    def files(names: list[str], days: float) -> dict[str, bytes]:
        leaf = certificates.leaf(
            names, authority, not_before=NOW - datetime.timedelta(days=90),
            not_after=NOW + datetime.timedelta(days=days),
        )  # fmt: skip
        return {"a.pem": leaf.certificate_pem, "a.key": leaf.key_pem}

    before = snapshot(BASE, files(["a.test", "b.test"], 60))
    found = {
        days: [one.code for one in plan(before, snapshot(BASE, new), NOW).hazards]
        for days in (-1, 13, 15)
        for new in (files(["a.test"], days),)
    }
    assert found == {
        -1: ["certificate_changed", "certificate_names_lost", "certificate_expired"],
        13: ["certificate_changed", "certificate_names_lost", "certificate_expires_soon"],
        15: ["certificate_changed", "certificate_names_lost"],
    }
    assert plan(before, before, NOW).hazards == ()


@pytest.mark.parametrize(("names", "hazards"), [([], ["certificate_nameless"]), (["::1"], [])])
def test_a_certificate_that_names_no_host_is_a_hazard(names, hazards):
    leaf = certificates.leaf(
        names, certificates.ca(), not_before=NOW, not_after=NOW + datetime.timedelta(days=60)
    )
    after = snapshot(BASE, {"a.pem": leaf.certificate_pem, "a.key": leaf.key_pem})
    found = [one.code for one in plan(snapshot(BASE), after, NOW).hazards]
    assert [code for code in found if code != "certificate_changed"] == hazards


def test_every_kind_of_hazard_has_a_meaning_and_a_sentence():
    for code, kind in HAZARDS.items():
        assert code == kind.code
        assert kind.meaning.endswith(".")
        assert not kind.sentence.endswith(".")


# --- JSON -------------------------------------------------------------------------------------
EDITS: list[tuple[str, Any]] = [
    NO_CATCH_ALL,
    ("upstream/api/load_balancing", {"type": "maglev", "balance_factor": 2.0}),
    ("upstream/api/backends/0/weight", 1),
    ("upstream/web/backends/0/address", "10.9.9.9"),
    ("listeners/1/port", 9444),
    ("listeners/0/tls/strict_sni", True),
    ("performance/max_request_body_bytes", None),
    ("performance/worker_threads", "auto"),
    ("resilience/protocol/denied_path_prefixes", []),
    ("log/level", "debug"),
]


@given(st.lists(st.sampled_from(EDITS), unique_by=lambda edit: edit[0]))
def test_a_plan_survives_json(edits):
    made = planned(*edits)
    assert decode(encode(made)) == made
    assert bool(made.changes) == bool(edits)


def test_the_names_in_json_are_stable():
    made = planned(("upstream/api/backends/0/address", "https://10.0.0.9"), NO_CATCH_ALL)
    shown = msgspec.json.decode(encode(made))
    assert sorted(shown) == [
        "back_to", "changes", "drain_seconds", "drained", "generation", "hazards", "kept",
        "overrides", "settled", "version",
    ]  # fmt: skip
    assert shown["version"] == 1
    assert shown["changes"][-1] == {
        "kind": "changed",
        "object": {"kind": "backend", "parent": "api", "name": "api-1"},
        "key": "address",
        "path": "upstream.<name>.backends[].address",
        "old": "https://10.0.0.1:443",
        "new": "https://10.0.0.9:443",
        "settings": [],
        "effect": "drains",
        "reach": "new requests",
    }
    assert shown["drained"]["pools"] == [
        {
            "upstream": "api",
            "backend": "api-1",
            "origin": "https://10.0.0.1:443",
            "protocol": "auto",
        }
    ]
    assert shown["hazards"][0]["code"] == "catch_all_removed"


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"changes": [{}]}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(PlanError, match="no plan of version 1"):
        decode(text)


def test_a_private_key_is_not_in_a_plan():
    authority = certificates.ca()
    leaves = [certificates.leaf(["a.test"], authority) for _ in range(2)]
    before, after = (
        snapshot(BASE, {"a.pem": leaf.certificate_pem, "a.key": leaf.key_pem}) for leaf in leaves
    )
    made = plan(before, after, NOW)
    shown = encode(made).decode()
    for leaf in leaves:
        for line in leaf.key_pem.decode().splitlines():
            assert line not in shown


def test_networks_that_are_believed_anew():
    path = "listeners/0/client_address"
    trusted = {"trusted_cidrs": ["10.0.0.0/8"], "header": "x-forwarded-for"}
    more = {**trusted, "trusted_cidrs": ["10.0.0.0/8", "192.0.2.0/24"]}
    found = {("proxies_trusted", "listener 0.0.0.0:8443")}
    assert set(hazards((path, trusted))) == found
    before = snapshot(edited(BASE, (path, trusted)))
    (hazard,) = plan(before, snapshot(edited(BASE, (path, more))), NOW).hazards
    assert hazard.code == "proxies_trusted"
    assert "192.0.2.0/24" in hazard.text
    assert "10.0.0.0/8" not in hazard.text
    assert plan(snapshot(edited(BASE, (path, more))), before, NOW).hazards == ()
