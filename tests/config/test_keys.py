"""Keys: every one of the reference is taken or refused by name, and no other is taken."""

import re

import pytest
import yaml

from spooky.config import diagnose_text
from tests.config.support import marked, minimal, only, problems, where

TABLE = """
listen.protocol listen.address listen.port listen.tls.cert listen.tls.key
listen.tls.certificates[].server_name listen.tls.certificates[].cert listen.tls.certificates[].key
listen.tls.client_auth.enabled listen.tls.client_auth.require_client_cert
listen.tls.client_auth.ca_file listeners[].protocol listeners[].address listeners[].port
listeners[].tls.cert listeners[].tls.key listeners[].tls.certificates[].server_name
listeners[].tls.client_auth.enabled load_balancing.type load_balancing.key upstream.*.route.host
upstream.*.route.path_prefix upstream.*.route.method upstream.*.backends[].id
upstream.*.backends[].address upstream.*.backends[].weight upstream.*.backends[].health_check.path
upstream.*.backends[].health_check.interval upstream.*.backends[].health_check.timeout_ms
upstream.*.backends[].health_check.failure_threshold
upstream.*.backends[].health_check.success_threshold
upstream.*.backends[].health_check.cooldown_ms upstream.*.load_balancing.type
upstream.*.load_balancing.key upstream.*.host_policy.mode upstream.*.host_policy.host
upstream.*.forwarded_headers.mode upstream.*.tls.verify_certificates upstream.*.tls.strict_sni
upstream.*.tls.ca_file upstream.*.tls.ca_dir upstream.*.tls.client_certificate
upstream.*.tls.client_certificate_ref upstream.*.tls.client_key upstream.*.tls.client_key_ref
upstream_tls.verify_certificates upstream_tls.strict_sni upstream_tls.ca_file upstream_tls.ca_dir
upstream_tls.client_certificate upstream_tls.client_certificate_ref upstream_tls.client_key
upstream_tls.client_key_ref upstream.*.auth.api_key.header_name upstream.*.auth.api_key.keys
upstream.*.auth.jwt.secret upstream.*.auth.jwt.secret_ref upstream.*.auth.jwt.issuer
upstream.*.auth.jwt.issuers upstream.*.auth.jwt.audience upstream.*.auth.jwt.audiences
upstream.*.auth.jwt.allowed_algorithms upstream.*.auth.jwt.require_kid
upstream.*.auth.jwt.static_keys[].kind upstream.*.auth.jwt.static_keys[].kid
upstream.*.auth.jwt.static_keys[].alg upstream.*.auth.jwt.static_keys[].public_key_pem
upstream.*.auth.jwt.static_keys[].jwk upstream.*.auth.jwt.jwks_url
upstream.*.auth.jwt.jwks_refresh_interval_secs upstream.*.auth.jwt.jwks_request_timeout_ms
upstream.*.auth.jwt.jwks_cache_ttl_secs upstream.*.auth.jwt.jwks_stale_if_error_secs
upstream.*.auth.jwt.jwks_startup_behavior upstream.*.auth.jwt.clock_skew_secs
upstream.*.auth.external_auth.kind upstream.*.auth.external_auth.endpoint
upstream.*.auth.external_auth.request_headers
upstream.*.auth.external_auth.response_header_allowlist upstream.*.auth.external_auth.timeout_ms
upstream.*.auth.external_auth.failure_mode upstream.*.auth.external_auth.discovery_url
upstream.*.auth.external_auth.issuer_url upstream.*.auth.external_auth.client_id
upstream.*.auth.external_auth.client_secret upstream.*.auth.external_auth.client_secret_ref
upstream.*.auth.external_auth.audience upstream.*.auth.external_auth.scopes
upstream.*.auth.required_scopes upstream.*.auth.required_roles secrets.default_provider
secrets.providers.*.kind secrets.providers.*.base_dir log.level log.format log.file.enabled
log.file.path performance.worker_threads performance.control_plane_threads performance.reuseport
performance.pin_workers performance.packet_shards_per_worker
performance.packet_shard_queue_capacity performance.packet_shard_queue_max_bytes
performance.udp_recv_buffer_bytes performance.udp_send_buffer_bytes
performance.h2_pool_max_idle_per_backend performance.h2_pool_idle_timeout_ms
performance.backend_dns_refresh_enabled performance.backend_dns_refresh_interval_ms
performance.new_connections_per_sec performance.new_connections_burst
performance.max_active_connections performance.backend_connect_timeout_ms
performance.backend_timeout_ms performance.backend_body_idle_timeout_ms
performance.backend_body_total_timeout_ms performance.backend_total_request_timeout_ms
performance.client_body_idle_timeout_ms performance.shutdown_drain_timeout_ms
performance.quic_max_idle_timeout_ms performance.quic_initial_max_data
performance.quic_initial_max_stream_data performance.max_request_body_bytes
performance.max_response_body_bytes performance.unknown_length_response_prebuffer_bytes
performance.request_buffer_global_cap_bytes performance.global_inflight_limit
performance.per_upstream_inflight_limit performance.per_backend_inflight_limit
performance.inflight_acquire_wait_ms observability.metrics.enabled observability.metrics.required
observability.metrics.address observability.metrics.allow_non_loopback observability.metrics.port
observability.metrics.path observability.metrics.max_connections
observability.metrics.connection_timeout_ms observability.control_api.enabled
observability.control_api.required observability.control_api.address
observability.control_api.port observability.control_api.health_path
observability.control_api.ready_path observability.control_api.runtime_path
observability.control_api.restart_path observability.control_api.reload_path
observability.control_api.reload_certs_path observability.control_api.max_connections
observability.control_api.connection_timeout_ms observability.control_api.auth_token
observability.control_api.auth_token_ref observability.control_api.tls.client_auth.mode
observability.control_api.tls.client_auth.ca_file observability.control_api.tls.client_auth.ca_dir
observability.control_api.auth.bearer_tokens[].token
observability.control_api.auth.bearer_tokens[].token_ref
observability.control_api.auth.bearer_tokens[].role
observability.control_api.auth.bearer_tokens[].actor_id
observability.control_api.auth.identity_source.kind
observability.control_api.auth.identity_source.role_attribute
observability.control_api.authorization.protect_health
observability.control_api.authorization.protect_ready
observability.control_api.authorization.runtime_read_role
observability.control_api.authorization.runtime_mutate_role
observability.control_api.authorization.restart_role observability.control_api.ip_allowlist.cidrs
observability.control_api.ip_allowlist.trusted_proxy_cidrs
observability.control_api.ip_allowlist.trust_proxy_headers observability.control_api.audit.enabled
observability.control_api.audit.format observability.control_api.audit.sink
observability.control_api.audit.file_path observability.tracing.enabled
observability.tracing.service_name observability.tracing.otlp_endpoint
observability.tracing.sample_ratio observability.routing.enabled
observability.routing.include_reason observability.routing.expose_header
observability.routing.header_name resilience.adaptive_admission.enabled
resilience.adaptive_admission.min_limit resilience.adaptive_admission.max_limit
resilience.adaptive_admission.decrease_step resilience.adaptive_admission.increase_step
resilience.adaptive_admission.high_latency_ms resilience.route_queue.default_cap
resilience.route_queue.global_cap resilience.route_queue.shed_retry_after_seconds
resilience.route_queue.caps.* resilience.scoped_rate_limits[].name
resilience.scoped_rate_limits[].scope resilience.scoped_rate_limits[].requests_per_sec
resilience.scoped_rate_limits[].burst resilience.scoped_rate_limits[].key
resilience.scoped_rate_limits[].route_allowlist resilience.scoped_rate_limits[].idle_ttl_secs
resilience.quota.enabled resilience.quota.enforcement resilience.quota.backend_failure_policy
resilience.quota.backend.kind resilience.quota.backend.key_prefix resilience.quota.backend.url
resilience.quota.backend.connect_timeout_ms resilience.quota.backend.command_timeout_ms
resilience.quota.backend.max_inflight resilience.quota.local_fallback.key_prefix
resilience.quota.local_fallback.max_entries resilience.quota.policies[].name
resilience.quota.policies[].route_allowlist resilience.quota.policies[].selector.route
resilience.quota.policies[].selector.tenant.key resilience.quota.policies[].selector.token.key
resilience.quota.policies[].selector.client.key resilience.quota.policies[].burst.requests
resilience.quota.policies[].burst.window_secs resilience.quota.policies[].sustained.requests
resilience.quota.policies[].sustained.window_secs resilience.protocol.allow_0rtt
resilience.protocol.early_data_safe_methods resilience.protocol.max_headers_count
resilience.protocol.max_headers_bytes resilience.protocol.enforce_authority_host_match
resilience.protocol.allow_connect resilience.protocol.connect_allowed_ports
resilience.protocol.connect_allowed_authorities resilience.protocol.allowed_methods
resilience.protocol.denied_path_prefixes resilience.circuit_breaker.enabled
resilience.circuit_breaker.failure_threshold resilience.circuit_breaker.open_ms
resilience.circuit_breaker.half_open_max_probes resilience.hedging.enabled
resilience.hedging.delay_ms resilience.hedging.safe_methods resilience.hedging.route_allowlist
resilience.retry_budget.enabled resilience.retry_budget.ratio_percent
resilience.retry_budget.per_route_ratio_percent.* resilience.brownout.enabled
resilience.brownout.trigger_inflight_percent resilience.brownout.recover_inflight_percent
resilience.brownout.core_routes resilience.watchdog.enabled resilience.watchdog.check_interval_ms
resilience.watchdog.poll_stall_timeout_ms resilience.watchdog.timeout_error_rate_percent
resilience.watchdog.min_requests_per_window resilience.watchdog.overload_inflight_percent
resilience.watchdog.unhealthy_consecutive_windows resilience.watchdog.drain_grace_ms
resilience.watchdog.restart_cooldown_ms resilience.watchdog.restart_command
resilience.watchdog.restart_hook security.privileges.enabled security.privileges.user
security.privileges.group
"""
"""Every key of the Rust Spooky's version 1 but for ``version``."""

REFERENCE = TABLE.split()

SUPPORTED = re.compile(
    r"listen(ers\[\])?\..*|load_balancing\..*"
    r"|upstream\.\*\.(route|load_balancing|host_policy|forwarded_headers)\..*"
    r"|upstream\.\*\.backends\[\]\.(id|address|weight|health_check\..*)"
    r"|upstream(\.\*\.tls|_tls)\.(verify_certificates|strict_sni|ca_file|ca_dir|client_certificate"
    r"|client_key)"
    r"|log\..*|observability\.metrics\..*"
    r"|observability\.control_api\.(enabled|required|address|port|max_connections|(health|ready|runtime|restart"
    r"|reload|reload_certs)_path"
    r"|connection_timeout_ms|tls\.client_auth\.(mode|ca_file)|auth\.identity_source\.kind"
    r"|auth\.bearer_tokens\[\]\.(role|actor_id)|authorization\.protect_.*|ip_allowlist\.cidrs"
    r"|audit\.(enabled|sink|file_path))"
    r"|performance\.(?!control_plane_|reuseport|pin_|packet_).*"
    r"|resilience\.protocol\.(max_headers_.*|enforce_.*|allow(ed_methods|_0rtt)|early_.*"
    r"|denied_.*)|resilience\.(adaptive_admission|route_queue|brownout|circuit_breaker)\..*"
    r"|resilience\.watchdog\.(?!restart_(command|hook)|overload_).*"
    r"|resilience\.(hedging|retry_budget)\..*|security\.privileges\..*"
)
"""What this version does."""


def document(key: str) -> object:
    """Return nested mappings and lists with nothing but one key."""
    name, _, rest = key.partition(".")
    below: object = document(rest) if rest else "value"
    if name.endswith("[]"):
        return {name[:-2]: [below]}
    return {"some" if name == "*" else name: below}


def concrete(key: str) -> str:
    return key.replace("[]", "[0]").replace("*", "some")


@pytest.mark.parametrize("key", REFERENCE)
def test_every_key_of_the_reference_is_taken_or_refused_by_name(key):
    found = diagnose_text(yaml.safe_dump(document(key))).problems
    path = concrete(key)
    about = [p for p in found if path == p.path or path.startswith((f"{p.path}.", f"{p.path}["))]
    refused = [problem for problem in about if "not supported yet" in problem.message]
    assert not any("no such key" in problem.message for problem in found)
    if SUPPORTED.fullmatch(key):
        assert not refused
    else:
        (problem,) = refused
        assert problem.message == "this key is not supported yet"
        assert problem.line is not None
        assert problem.severity == "error"


@pytest.mark.parametrize(
    "key", [k for k in REFERENCE if not SUPPORTED.fullmatch(k) and not k.endswith("*")]
)
def test_a_slip_in_a_key_that_is_not_supported_yet_is_an_unknown_key(key):
    """So "not supported yet" is said of exactly the keys that exist."""
    slip = f"{key}x"
    found = diagnose_text(yaml.safe_dump(document(slip))).problems
    (unknown,) = [problem for problem in found if problem.path == concrete(slip)]
    assert unknown.message == "there is no such key"
    assert f"did you mean {key.rpartition('.')[2]}?" == unknown.remedy


@pytest.mark.parametrize(
    ("more", "path", "remedy"),
    [
        ("⟦performence: {}", "performence", "did you mean performance?"),
        ("log: {⟦levle: info}", "log.levle", "did you mean level?"),
        ("performance: {⟦backendTimeoutMs: 1}", "performance.backendTimeoutMs",
         "did you mean backend_timeout_ms?"),
        ("performance: {⟦backend-timeout-ms: 1}", "performance.backend-timeout-ms",
         "did you mean backend_timeout_ms?"),
        ("performance: {⟦BACKEND_TIMEOUT_MS: 1}", "performance.BACKEND_TIMEOUT_MS",
         "did you mean backend_timeout_ms?"),
        ("⟦max_headers_count: 5", "max_headers_count",
         "this key exists at resilience.protocol.max_headers_count"),
        ("resilience: {⟦allowed_methods: [GET]}", "resilience.allowed_methods",
         "this key exists at resilience.protocol.allowed_methods"),
        ("log: {⟦worker_threads: 5}", "log.worker_threads",
         "this key exists at performance.worker_threads"),
        ("log: {⟦zzz: 5}", "log.zzz", "the keys here are level, format, file"),
        ("log: {file: {⟦rotate: 5}}", "log.file.rotate", "the keys here are enabled, path"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_an_error_with_the_nearest_one(more, path, remedy):
    text, line, column = marked(minimal(more=f"{more}\n"))
    problem = only(text)
    assert problem.message == "there is no such key"
    assert problem.remedy == remedy
    assert where(problem) == (line, column, path)


def test_an_unsupported_section_is_refused_once_at_its_top():
    """And what is wrong inside is said as well."""
    text, line, column = marked(
        minimal(more="⟦secrets:\n  default_provider: vault\n  provider: {}\n")
    )
    first, second = problems(text)
    assert where(first) == (line, column, "secrets")
    assert first.message == "this key is not supported yet"
    assert where(second) == (line + 2, column + 2, "secrets.provider")
    assert second.remedy == "did you mean providers?"


@pytest.mark.parametrize(
    "empty", ["secrets:", "observability: {tracing: {}}", "resilience: {quota: }"]
)
def test_unsupported_sections_are_refused_even_when_empty(empty):
    assert only(minimal(more=f"{empty}\n")).message == "this key is not supported yet"


def test_names_of_upstreams_are_no_keys_of_the_schema():
    """An upstream may be called what is a key elsewhere."""
    text = "listen: {tls: {cert: c, key: k}}\nupstream:\n"
    for i, name in enumerate(("backends", "auth", "secrets")):
        text += f"  {name}: {{route: {{path_prefix: /{i}}}, backends: [{{id: a, address: a}}]}}\n"
    assert not problems(text)
