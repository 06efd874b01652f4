"""The rules that find hazards in a plan; their texts are in :mod:`spooky.control.hazards`."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from spooky._core.routes import RouteTable, Rule
from spooky.config import exposure
from spooky.config.difference import Change, ChangeKind
from spooky.config.files import CertificateFacts
from spooky.config.inventory import (
    DEFAULT_CERTIFICATE,
    SETTINGS,
    Files,
    Inventory,
    Object,
    ObjectKind,
    Value,
    inventory_of_listeners,
    listener_name,
    listeners_by_name,
    route_name,
    rule_of,
    rules_of,
)
from spooky.config.listener_tls import ClientAuth, ListenerTLS
from spooky.config.schema import Configuration, Upstream
from spooky.config.world import EXPIRES_SOON
from spooky.control.hazards import HAZARDS, Hazard, hazard
from spooky.protocol.quic.certificates import wildcard_of

CAPACITY_KEPT_MIN: Final = 0.5
"""Who keeps no more than this share of the capacity runs at double load or worse."""

HEALTH_CHECK: Final = "upstream.<name>.backends[].health_check"

OUTLIER_DETECTION: Final = "upstream.<name>.outlier_detection.enabled"

LIMITS: Final = frozenset(
    (
        *exposure.LIMITS,
        "performance.max_request_body_bytes",
        "performance.max_response_body_bytes",
        "performance.backend_total_request_timeout_ms",
        "resilience.protocol.glitches.connection_refill_per_sec",
        "resilience.protocol.glitches.source_refill_per_sec",
        "resilience.adaptive_admission.max_limit",
        "resilience.adaptive_admission.min_limit",
        "resilience.adaptive_admission.latency_tolerance_percent",
        "resilience.adaptive_admission.high_latency_ms",
        "resilience.circuit_breaker.failure_threshold",
        "resilience.circuit_breaker.half_open_max_probes",
        "resilience.route_queue.default_cap",
        "resilience.route_queue.global_cap",
        "resilience.route_queue.caps.<name>",
        "routes[].max_inflight",
        *(
            f"{place}.{key}"
            for place in ("resilience.retry", "upstream.<name>.retry")
            for key in ("connect_tries", "tries", "per_try_timeout_ms", "body_max_bytes")
        ),
        "resilience.retry_budget.ratio_percent",
        "resilience.retry_budget.per_route_ratio_percent.<name>",
        "resilience.retry_budget.min_retries",
        "resilience.protocol.max_headers_count",
        "resilience.protocol.max_headers_bytes",
        "resilience.overload.event_loop_max_lag_ms",
        "resilience.overload.memory_max_bytes",
        "resilience.watchdog.poll_stall_timeout_ms",
        "upstream.<name>.load_balancing.balance_factor",
    )
)
"""Numbers that bound what clients or backends can take; null is no bound."""

_SWITCHED_OFF: Final = {
    "resilience.circuit_breaker.enabled": "circuit_breaker_off",
    "resilience.adaptive_admission.enabled": "adaptive_admission_off",
    "resilience.brownout.enabled": "brownout_off",
}
"""Hazards of protections that are switched off."""

THRESHOLDS: Final = "resilience.overload.actions."
"""Pressures from which something is done against overload; null is never."""

# Hosts, methods and paths of probes: what only a route for every host, or method, matches.
_ANY_HOST: Final = b"any-host.invalid"
_ANY_METHOD: Final = b"ANY"
_ANY_LABEL: Final = b"any-label"
_EVERYTHING: Final = (_ANY_HOST, b"/", _ANY_METHOD)


class Side(Struct, frozen=True):
    """One of the two configurations.

    Attributes:
        configuration: The configuration.
        files: Facts of the files that it names.
    """

    configuration: Configuration
    files: Files


def find_hazards(
    old: Side, new: Side, changes: Sequence[Change], now: datetime.datetime
) -> tuple[Hazard, ...]:
    """Return the hazards of a change, in the order of their kinds and of their objects.

    Arguments:
        old: What is in force.
        new: What would be.
        changes: Their difference.
        now: The time that certificates are held against, with a time zone.
    """
    found = [
        *_route_hazards(old.configuration, new.configuration),
        *_capacity_hazards(old.configuration, new.configuration),
        *_certificate_hazards(old, new, now),
        *_client_auth_hazards(old.configuration, new.configuration),
    ]
    gone = {
        change.object.name
        for change in changes
        if change.object.kind is ObjectKind.LISTENER and change.kind is ChangeKind.REMOVED
    }
    for change in changes:
        if change.key:
            found += _setting_hazards(change)
        elif change.kind is ChangeKind.REMOVED and change.object.parent not in gone:
            found += _removal_hazards(change.object, new.configuration)
    places = {code: place for place, code in enumerate(HAZARDS)}
    return tuple(sorted(found, key=lambda one: (places[one.code], one.object)))


# --- routes -----------------------------------------------------------------------------------
def _route_hazards(old: Configuration, new: Configuration) -> Iterator[Hazard]:
    # Of ten thousand routes, most are the same: those need no look.
    before, after = dict.fromkeys(old.all_routes()), dict.fromkeys(new.all_routes())
    kept = {route_name(rule_of(*one)) for one in after if one not in before}
    changed = [rule_of(*one) for one in before if one not in after]
    gone = [rule for rule in changed if route_name(rule) not in kept]
    if not gone:
        return
    table = RouteTable(rules_of(new))
    for rule in gone:
        each = Object(ObjectKind.ROUTE, "", route_name(rule))
        probe = _probe(rule)
        upstream = table.lookup(*probe)
        if upstream is None and probe == _EVERYTHING:
            yield hazard("catch_all_removed", each)
        elif upstream is None:
            yield hazard("route_unmatched", each)
        elif upstream != rule.target:
            yield hazard("route_taken_over", each, old=rule.target, new=upstream)


def _probe(rule: Rule) -> tuple[bytes, bytes, bytes]:
    """Return host, path and method of a request that a rule matches, and as few others as can."""
    host = rule.host or _ANY_HOST
    if rule.is_wildcard:
        host = host.replace(b"*", _ANY_LABEL, 1)
    return host, rule.path_prefix, rule.method or _ANY_METHOD


# --- capacity ---------------------------------------------------------------------------------
def _capacity_hazards(old: Configuration, new: Configuration) -> Iterator[Hazard]:
    total_before = 0
    total_after = 0.0
    for name, upstream in old.upstream.items():
        each = Object(ObjectKind.UPSTREAM, "", name)
        before = _serving(upstream)
        after = _serving(new.upstream[name]) if name in new.upstream else {}
        total_before += len(before)
        if not before:
            total_after += len(after)
            continue
        if not before.keys() & after.keys():
            yield hazard("last_backend_removed", each, upstream=name)
        if name not in new.upstream:
            continue
        share = _capacity_kept(before, after)
        total_after += len(before) * share
        if share <= CAPACITY_KEPT_MIN:
            yield hazard("capacity_halved", each, upstream=name, percent=_percent(share))
    for name, upstream in new.upstream.items():
        if name not in old.upstream:
            total_after += len(_serving(upstream))
    if total_before > 0 and total_after <= total_before * CAPACITY_KEPT_MIN:
        percent = _percent(total_after / total_before)
        yield hazard("total_capacity_halved", SETTINGS, percent=percent)


def _serving(upstream: Upstream) -> dict[str, int]:
    """Return the weights of the backends that take requests."""
    return {each.id: each.weight for each in upstream.backends if each.state == "enabled"}


def _capacity_kept(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Return which share of an upstream's capacity is there afterwards; more than 1 if it grows."""
    kept = before.keys() & after.keys()
    if not kept:
        return len(after) / len(before)
    # Weights are relative: whoever keeps most of its own is taken for unchanged.
    scale = max(after[each] / before[each] for each in kept)
    return sum(after.values()) / scale / sum(before.values())


def _percent(share: float) -> int:
    return int(share * 100)


# --- certificates -----------------------------------------------------------------------------
def _certificate_hazards(old: Side, new: Side, now: datetime.datetime) -> Iterator[Hazard]:
    before = _certificates(old)
    after = _certificates(new)
    for each, certificate in after.items():
        replaced = before.get(each)
        if certificate is None:
            continue
        if replaced is not None:
            lost = sorted(set(replaced.names) - set(certificate.names))
            if lost:
                yield hazard("certificate_names_lost", each, names=", ".join(lost))
        if not certificate.names:
            yield hazard("certificate_nameless", each)
        date = f"{certificate.not_after:%Y-%m-%d}"
        if now > certificate.not_after:
            yield hazard("certificate_expired", each, date=date)
        elif now > certificate.not_after - EXPIRES_SOON:
            yield hazard("certificate_expires_soon", each, date=date)


def _certificates(side: Side) -> dict[Object, CertificateFacts | None]:
    """Return what is known of the certificate of each server name of each listener."""
    found: Inventory = inventory_of_listeners(side.configuration, side.files)
    certificates: dict[Object, CertificateFacts | None] = {}
    for each, rows in found.items():
        if each.kind is ObjectKind.CERTIFICATE:
            facts = side.files.get(str(rows["cert"].value))
            certificates[each] = facts.certificate if facts is not None else None
    return certificates


# --- client certificates ----------------------------------------------------------------------
def _client_auth_hazards(old: Configuration, new: Configuration) -> Iterator[Hazard]:
    after = listeners_by_name(new)
    for place, listener in listeners_by_name(old).items():
        if place not in after:
            continue
        before, now = listener.tls, after[place].tls
        if _asks_less(before.client_auth, now.client_auth):
            yield hazard("client_auth_weakened", Object(ObjectKind.LISTENER, "", place))
        for name in sorted(
            {each.server_name for each in (*before.certificates, *now.certificates)}
        ):
            asked, asks = _own_client_auth(before, name), _own_client_auth(now, name)
            if asked is asks is None:
                # What the listener asks, on both sides.
                continue
            if _asks_less(asked or before.client_auth, asks or now.client_auth):
                each = Object(ObjectKind.CERTIFICATE, place, name)
                yield hazard("client_auth_weakened", each)


def _own_client_auth(tls: ListenerTLS, name: str) -> ClientAuth | None:
    """Return what is asked of clients for a name; ``None`` for what the listener asks."""
    by_name = {each.server_name: each.client_auth for each in tls.certificates}
    return by_name[name] if name in by_name else by_name.get(wildcard_of(name))


def _asks_less(before: ClientAuth, after: ClientAuth) -> bool:
    return (before.enabled and not after.enabled) or (before.demands and not after.demands)


# --- single changes ---------------------------------------------------------------------------
def _removal_hazards(each: Object, new: Configuration) -> Iterator[Hazard]:
    if each.kind is ObjectKind.LISTENER and not _still_listened_on(each.name, new):
        yield hazard("listener_removed", each, listener=each.name)
    elif each.kind is ObjectKind.CERTIFICATE:
        yield hazard("certificate_removed", each, name=_asked_for(each))


def _still_listened_on(place: str, new: Configuration) -> bool:
    """Return whether a listener for all addresses takes what one for some address took."""
    address, _, port = place.partition(" ")[0].rpartition(":")
    wildcards = ("[::]",) if address.startswith("[") else ("[::]", "0.0.0.0")
    return any(
        listener_name(listener) in [f"{wildcard}:{port}" for wildcard in wildcards]
        for listener in new.active_listeners
    )


def _asked_for(certificate: Object) -> str:
    return "any other name" if certificate.name == DEFAULT_CERTIFICATE else certificate.name


def _setting_hazards(change: Change) -> Iterator[Hazard]:
    each = change.object
    if each.kind is ObjectKind.CERTIFICATE and change.key == "fingerprint":
        yield hazard("certificate_changed", each, name=_asked_for(each))
    if change.path == HEALTH_CHECK and change.new is None:
        yield hazard("health_check_removed", each, backend=f"{each.parent} {each.name}")
    if change.path == OUTLIER_DETECTION and change.new is False:
        yield hazard("outlier_detection_off", each, upstream=each.name)
    code = _SWITCHED_OFF.get(change.path)
    if code is not None and change.new is False:
        yield hazard(code, each)
    if _lifts(change):
        yield hazard(
            "limit_lifted", each, key=change.key, old=_said(change.old), new=_said(change.new)
        )
    if change.path == "resilience.protocol.allow_0rtt" and change.new is True:
        yield hazard("early_data_allowed", each)
    if change.path == "listeners[].client_address.trusted_cidrs":
        more = sorted(set(_texts(change.new)) - set(_texts(change.old)))
        if more:
            yield hazard("proxies_trusted", each, listener=each.name, cidrs=", ".join(more))
    if (
        change.path.startswith("upstream.<name>.tls.")
        and change.path.endswith((".verify_certificates", ".strict_sni"))
        and change.new is False
    ):
        yield hazard("backend_verification_off", each, key=change.key, upstream=each.name)


def _texts(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _lifts(change: Change) -> bool:
    """Return whether a change takes a limit away or makes it next to nothing."""
    old, new = change.old, change.new
    match change.path:
        case (
            "resilience.protocol.enforce_authority_host_match"
            | "resilience.overload.enabled"
            | "resilience.watchdog.enabled"
            | "resilience.retry_budget.enabled"
            | "listeners[].tls.strict_authority"
            | "security.privileges.enabled"
            | "security.sandbox"
        ):
            return new is False
        case "resilience.protocol.allowed_methods":
            return isinstance(old, tuple) and isinstance(new, tuple) and old != () and new == ()
        case "resilience.protocol.denied_path_prefixes":
            return isinstance(old, tuple) and isinstance(new, tuple) and not set(old) <= set(new)
        case "resilience.protocol.underscores_in_headers":
            return new == "pass"
        case "performance.quic_retry":
            return new == "never"
        case "performance.source_rules":
            return (
                isinstance(old, tuple)
                and isinstance(new, tuple)
                and not (_drops(old) <= _drops(new))
            )
    if change.path in exposure.RATES and isinstance(old, int):
        return not isinstance(new, int) or new * exposure.FAR_MORE <= old
    if old is None or not (change.path in LIMITS or change.path.startswith(THRESHOLDS)):
        return False
    if new is None:
        return True
    return (
        isinstance(old, int | float)
        and isinstance(new, int | float)
        and new >= old * exposure.FAR_MORE
    )


def _drops(rules: tuple[str, ...]) -> set[str]:
    """Return the rules that keep somebody out, or ask for a proof."""
    return {rule for rule in rules if not rule.startswith("allow")}


def _said(value: Value) -> str:
    """Return a value of a limit as a sentence says it."""
    match value:
        case None:
            return "no limit"
        case bool():
            return "on" if value else "off"
        case ():
            return "none"
        case tuple():
            return ", ".join(value)
    return str(value)
