"""The rules, the dashboard and the pages name metrics and labels that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from spooky.observe import reference_facts, reference_latencies, reference_metrics
from spooky.observe.metrics import PREFIX, TABLE, Kind

OPERATIONS = Path("docs/operations")
RULES = sorted((OPERATIONS / "prometheus").glob("*.yml"))
PAGES = [
    OPERATIONS / name for name in ("grafana/spooky.json", "alerts.md", "capacity.md", "metrics.md")
]
METRIC = re.compile(rf"\b{PREFIX}[a-z0-9_]+\b")
# Sums over upstreams or backends: they fall when one is removed, which a rate takes for a restart.
FALLING = re.compile(
    rf"{PREFIX}(?:requests_(?:success|failure)|request_validation_rejects|policy_denied"
    r"|backend_timeouts|backend_errors|overload_shed|overload_shed_by_reason|upstream_requests"
    r"|worker_requests(?:_success|_failure)?|route_\w+|health_failures|upstream_tls_failure"
    r"|circuit_breaker_rejected|request_buffer_limit_rejects|response_prebuffer_limit_rejects"
    r"|retries|retry_attempts|hedge_\w+)_total"
)
# The names of rust-spooky's metrics, without their prefix.
REFERENCE = """
active_connections backend_client_rotation_failures_total backend_client_rotations
backend_client_rotations_total backend_connect_attempt_total backend_dns_address_set_changes_total
backend_dns_last_refresh_success_seconds backend_dns_refresh_failure_total
backend_dns_refresh_success_total backend_dns_resolved_addresses backend_errors
backend_requests_total backend_timeouts brownout_active circuit_breaker_rejected_total
connection_cap_rejects control_api_audit_event_drops control_api_audit_write_failures
control_api_connection_limit_drops control_plane_cert_reload_total downstream_tls_alpn_total
downstream_tls_certificate_days_remaining downstream_tls_certificate_not_after_seconds
downstream_tls_certificate_selection_total downstream_tls_handshake_failure_total
downstream_tls_handshake_success_total early_data_accepted early_data_rejected
external_auth_allowed external_auth_denied external_auth_error external_auth_timeout
health_checks_failure health_checks_success health_checks_total health_failures_total
hedge_primary_late_ms_total hedge_primary_late_samples_total hedge_primary_won_after_trigger_total
hedge_triggered_total hedge_wasted_total hedge_won_total inflight_wait_admit_total
ingress_bad_header_total ingress_connection_create_failed_total ingress_draining_drops_total
ingress_packets_total ingress_queue_bytes ingress_queue_drop_bytes ingress_queue_drops
ingress_rate_limited_total ingress_unroutable_total ingress_version_neg_failed_total
jwks_active_keys jwks_age_seconds jwks_last_refresh_attempt_seconds
jwks_last_refresh_success_seconds jwks_refresh_failure_total jwks_refresh_success_total jwks_state
jwks_unknown_kid_total jwt_algorithm_rejections_total jwt_validation_failures_total overload_shed
overload_shed_by_reason_total policy_denied quota_backend_health_total quota_policy_outcomes_total
request_buffer_limit_rejects request_buffered_bytes request_buffered_high_watermark_bytes
request_rate_limited request_validation_rejects requests_failure requests_success requests_total
response_prebuffer_limit_rejects retries_total retry_attempts_total retry_denied_total
route_backend_error_total route_failure_total route_latency_ms_p50 route_latency_ms_p95
route_latency_ms_p99 route_latency_sample_every route_overload_shed_total route_rate_limited_total
route_requests_total route_success_total route_timeout_total runtime_activation_total
runtime_active_generation runtime_history_depth runtime_panics runtime_preview_attempts_total
runtime_rejections_total runtime_rollback_total runtime_validation_attempts_total scid_rotations
secret_last_success_unixtime secret_reload_total secret_resolve_total
upstream_client_certificate_days_remaining upstream_client_certificate_not_after_seconds
upstream_request_latency_ms upstream_requests_total upstream_tls_failure_total
watchdog_degraded_windows watchdog_restart_hooks watchdog_restart_requests
worker_ingress_packets_total worker_ingress_queue_drop_bytes worker_ingress_queue_drops
worker_requests_failure worker_requests_success worker_requests_total
"""
FACT = re.compile(r'Fact\(\s*"([a-z_]+)"')


def exposed() -> set[str]:
    """Return every name that a page of metrics may have."""
    sources = [path.read_text() for path in Path("spooky").rglob("*.py")]
    names = {fact for source in sources for fact in FACT.findall(source)}
    for told in (reference_facts, reference_latencies, reference_metrics):
        names |= set(told.NAMES)
    for metric in TABLE:
        suffixes = ("_bucket", "_count", "_sum", "") if metric.kind is Kind.HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return {PREFIX + name for name in names}


def test_every_metric_of_the_reference_is_in_the_table_and_is_there_or_said_not_to_be() -> None:
    page = (OPERATIONS / "metrics.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", page, re.M)
    told = {name: here for names, here in rows for name in re.findall(r"`([a-z0-9_]+)`", names)}
    assert told.keys() == set(REFERENCE.split())
    for name, here in told.items():
        total = name if name.endswith("_total") else f"{name}_total"
        is_there = {PREFIX + name, PREFIX + total} & exposed()
        assert here.startswith("none: ") != bool(is_there or name == "requests_total"), name


def rules() -> Iterator[dict[str, object]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


@pytest.mark.parametrize("path", [*RULES, *PAGES], ids=str)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = set(METRIC.findall(path.read_text()))
    assert named
    assert named - exposed() == set()


def test_every_recorded_name_that_is_used_is_recorded() -> None:
    recorded = {str(rule["record"]) for rule in rules() if "record" in rule}
    expressions = [str(rule["expr"]) for rule in rules()]
    used = {name for text in expressions for name in re.findall(r"spooky:[a-z0-9_:]+", text)}
    assert used <= recorded


@pytest.mark.parametrize("path", [*RULES, *PAGES[:-1]], ids=str)
def test_no_rate_is_over_what_falls_when_a_backend_is_removed(path: Path) -> None:
    assert FALLING.findall(path.read_text()) == []


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = {str(rule["alert"]) for rule in rules() if "alert" in rule}
    page = (OPERATIONS / "alerts.md").read_text()
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == alerts
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == f"alerts.md#{rule['alert'].lower()}"  # type: ignore[index]
            assert rule["labels"]["severity"] in ("page", "ticket")  # type: ignore[index]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((OPERATIONS / "grafana/spooky.json").read_text())
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities) > 10
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    command = ["promtool", "check", "rules", *map(str, RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
