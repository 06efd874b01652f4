"""What a change of each setting takes: the one place that knows it, by path in the schema.

``live`` settings are part of a generation, or of settings that connections copy as they begin, and
are in force at the commit. What is fixed when a process starts is ``rolling``. A setting that is
part of the identity of a thing which outlives generations makes another such thing of it, and the
old one ``drains``.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct

from spooky.config.overload_manager import OverloadActions


class Effect(StrEnum):
    """How a change comes into force, the gentlest first."""

    LIVE = "live"
    DRAINS = "drains"
    ROLLING = "rolling"


_EFFECT_TEXTS: Final[Mapping[Effect, str]] = {
    Effect.LIVE: "in force at the commit; nothing is interrupted",
    Effect.DRAINS: "in force at the commit; what uses the old finishes on it for at most {bound}, "
    "and is then cut",
    Effect.ROLLING: "cannot change in place; new processes take over, the old ones finish what "
    "they have for at most {bound}, and what is left then is cut",
}


def effect_text(effect: Effect, bound: str) -> str:
    """Return what an effect means.

    Arguments:
        bound: How long what drains has, for people.
    """
    return _EFFECT_TEXTS[effect].format(bound=bound)


class Reach(StrEnum):
    """What notices a change."""

    AT_ONCE = "everything at once"
    REQUESTS = "new requests"
    CLIENT_CONNECTIONS = "new client connections"
    BACKEND_CONNECTIONS = "new connections to backends"
    INHERITING = "upstreams without their own"
    PROCESSES = "new processes"


class Outcome(Struct, frozen=True):
    """What a change of one setting takes.

    Attributes:
        effect: How it comes into force.
        reach: What notices it.
    """

    effect: Effect
    reach: Reach


_Group: TypeAlias = tuple[Effect, Reach, str, tuple[str, ...]]

_RETRY: Final = (
    "conditions", "connect_tries", "tries", "methods", "statuses", "per_try_timeout_ms",
    "backoff_base_ms", "backoff_max_ms", "body_max_bytes",
)  # fmt: skip

_GROUPS: Final[tuple[_Group, ...]] = (
    (Effect.LIVE, Reach.AT_ONCE, "", ("version",)),
    # Another address or port is another socket.
    (Effect.DRAINS, Reach.CLIENT_CONNECTIONS, "listeners[]", ("protocol", "address", "port")),
    (
        Effect.LIVE,
        Reach.CLIENT_CONNECTIONS,
        "listeners[].tls",
        (
            "cert", "key", "certificates[].server_name", "certificates[].cert",
            "certificates[].key", "strict_sni", "certificates[].client_auth",
            *(
                f"{place}client_auth.{key}"
                for place in ("", "certificates[].")
                for key in ("enabled", "require_client_cert", "ca_file")
            ),
        ),
    ),
    (Effect.LIVE, Reach.AT_ONCE, "listeners[].tls", ("strict_authority",)),
    (
        Effect.LIVE,
        Reach.CLIENT_CONNECTIONS,
        "listeners[].client_address",
        ("trusted_cidrs", "header", "proxy_protocol"),
    ),
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "upstream.<name>",
        (
            "route", "route.host", "route.path_prefix", "route.method", "route.priority",
            "route.max_inflight", "backends[].weight",
            "load_balancing", "load_balancing.type", "load_balancing.key",
            "load_balancing.balance_factor", "host_policy.mode", "host_policy.host",
            "forwarded_headers.mode", "retry", *(f"retry.{key}" for key in _RETRY),
        ),
    ),
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "routes[]",
        ("host", "path_prefix", "method", "priority", "max_inflight", "upstream"),
    ),
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "upstream.<name>",
        (
            "panic_threshold_percent", "backends[].health_check", "backends[].health_check.type",
            "backends[].health_check.path", "backends[].health_check.interval",
            "backends[].health_check.timeout_ms", "backends[].health_check.failure_threshold",
            "backends[].health_check.success_threshold", "backends[].health_check.cooldown_ms",
            "backends[].health_check.expected_status", "backends[].health_check.expected_body",
            "backends[].health_check.grpc_service", "outlier_detection.enabled",
            "outlier_detection.consecutive_errors", "outlier_detection.consecutive_gateway_errors",
            "outlier_detection.success_rate_stdev_factor", "outlier_detection.latency_factor",
            "outlier_detection.min_hosts", "outlier_detection.request_volume",
            "outlier_detection.interval_ms", "outlier_detection.base_ejection_ms",
            "outlier_detection.max_ejection_ms", "outlier_detection.max_ejected_percent",
            "slow_start", "slow_start.window_ms", "slow_start.min_weight_percent",
            "slow_start.aggression",
        ),
    ),
    # Each is part of the identity of a backend or of its pool.
    (
        Effect.DRAINS,
        Reach.REQUESTS,
        "upstream.<name>",
        (
            "backends[].id", "backends[].address", "backends[].state", "protocol", "tls",
            "tls.verify_certificates", "tls.strict_sni", "tls.ca_file", "tls.ca_dir",
            "tls.client_certificate", "tls.client_key",
        ),
    ),
    (
        Effect.LIVE,
        Reach.INHERITING,
        "",
        (
            "load_balancing.type", "load_balancing.key", "load_balancing.balance_factor",
            "upstream_tls.verify_certificates", "upstream_tls.strict_sni", "upstream_tls.ca_file",
            "upstream_tls.ca_dir", "upstream_tls.client_certificate", "upstream_tls.client_key",
            *(f"resilience.retry.{key}" for key in _RETRY),
        ),
    ),
    # The supervisor opens the files, and every process goes on in them.
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "",
        (
            "log.level", "log.format", "log.file.enabled", "log.file.path", "access_log.enabled",
            "access_log.format", "access_log.path",
        ),
    ),
    # Who changes the engine wants no connection left on the other. Slots, sockets and the shared
    # segment are laid out for a number of workers.
    (Effect.ROLLING, Reach.PROCESSES, "performance", ("quic_engine", "worker_threads")),
    # What a process gave up it cannot have again.
    (
        Effect.ROLLING,
        Reach.PROCESSES,
        "security",
        ("privileges.enabled", "privileges.user", "privileges.group", "sandbox"),
    ),
    # The supervisor keeps the sockets, whose buffers the kernel changes at any time.
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "performance",
        (
            "udp_recv_buffer_bytes", "udp_send_buffer_bytes", "shutdown_drain_timeout_ms",
            "backend_dns_refresh_enabled", "backend_dns_refresh_interval_ms",
        ),
    ),
    (
        Effect.LIVE,
        Reach.CLIENT_CONNECTIONS,
        "performance",
        (
            "max_active_connections", "max_half_open_connections", "new_connections_per_sec",
            "new_connections_burst", "new_connections_per_source_per_sec",
            "new_connections_per_source_burst", "quic_retry", "quic_congestion_control",
            "source_rules",
            "client_head_timeout_ms",
            "quic_max_idle_timeout_ms", "quic_initial_max_data", "quic_initial_max_stream_data",
            "quic_initial_max_streams_bidi",
        ),
    ),
    (
        Effect.LIVE,
        Reach.CLIENT_CONNECTIONS,
        "resilience.protocol",
        (
            "allow_0rtt", "glitches.connection_budget", "glitches.connection_refill_per_sec",
            "glitches.source_budget", "glitches.source_refill_per_sec",
            "glitches.min_pressure_percent",
        ),
    ),
    (
        Effect.LIVE,
        Reach.BACKEND_CONNECTIONS,
        "performance",
        (
            "h2_pool_max_idle_per_backend", "h2_pool_idle_timeout_ms",
            "backend_connect_timeout_ms",
        ),
    ),
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "performance",
        (
            "backend_timeout_ms", "backend_body_idle_timeout_ms", "backend_body_total_timeout_ms",
            "backend_total_request_timeout_ms", "client_body_idle_timeout_ms",
            "client_min_request_bytes_per_sec", "client_min_stream_bytes_per_sec",
            "client_min_response_bytes_per_sec", "client_rate_grace_ms",
            "global_inflight_limit", "per_upstream_inflight_limit", "per_backend_inflight_limit",
            "inflight_acquire_wait_ms", "max_request_body_bytes", "max_response_body_bytes",
            "unknown_length_response_prebuffer_bytes", "request_buffer_global_cap_bytes",
            "retry_buffer_global_cap_bytes",
        ),
    ),
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "resilience",
        (
            "retry_budget.enabled", "retry_budget.ratio_percent",
            "retry_budget.per_route_ratio_percent.<name>", "retry_budget.min_retries",
            "retry_budget.window_ms", "hedging.enabled", "hedging.delay_ms",
            "hedging.delay_percentile", "hedging.safe_methods", "hedging.route_allowlist",
        ),
    ),
    # The supervisor's own.
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "control",
        ("socket", "state_dir", "history", "probation", "watch"),
    ),
    # Each worker goes on in a ring of the other size, and what it kept is forgotten.
    (Effect.LIVE, Reach.AT_ONCE, "observability.decisions", ("bytes",)),
    # The endpoint is the supervisor's: it opens another.
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "observability.metrics",
        (
            "enabled", "required", "address", "allow_non_loopback", "port", "path",
            "max_connections", "connection_timeout_ms",
        ),
    ),
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "observability.control_api",
        (
            "enabled", "required", "address", "port", "health_path", "ready_path", "runtime_path",
            "restart_path", "reload_path", "reload_certs_path", "max_connections",
            "connection_timeout_ms", "tls.cert", "tls.key", "tls.client_auth.mode",
            "tls.client_auth.ca_file",
            "auth.bearer_tokens[].actor_id", "auth.bearer_tokens[].token_file",
            "auth.bearer_tokens[].role", "auth.certificates[].name", "auth.certificates[].role",
            "auth.identity_source.kind", "authorization.protect_health",
            "authorization.protect_ready", "ip_allowlist.cidrs", "audit.enabled", "audit.sink",
            "audit.file_path",
        ),
    ),
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "resilience.protocol",
        (
            "early_data_safe_methods",
            "max_headers_count", "max_headers_bytes", "enforce_authority_host_match",
            "underscores_in_headers",
            "allowed_methods", "denied_path_prefixes",
        ),
    ),
    # Counts, limits that were found and the state of breakers outlive a change.
    (
        Effect.LIVE,
        Reach.REQUESTS,
        "resilience",
        (
            "adaptive_admission.enabled", "adaptive_admission.algorithm",
            "adaptive_admission.min_limit", "adaptive_admission.max_limit",
            "adaptive_admission.latency_tolerance_percent",
            "adaptive_admission.measure_interval_ms", "adaptive_admission.increase_step",
            "adaptive_admission.decrease_step", "adaptive_admission.high_latency_ms",
            "route_queue.default_cap", "route_queue.caps.<name>", "route_queue.global_cap",
            "route_queue.shed_retry_after_seconds", "route_queue.target_ms", "brownout.enabled",
            "brownout.trigger_inflight_percent", "brownout.recover_inflight_percent",
            "brownout.core_routes", "circuit_breaker.enabled", "circuit_breaker.failure_threshold",
            "circuit_breaker.open_ms", "circuit_breaker.open_initial_ms",
            "circuit_breaker.half_open_max_probes",
        ),
    ),
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "resilience.overload",
        (
            "enabled", "refresh_interval_ms", "memory_max_bytes", "event_loop_max_lag_ms",
            "recover_margin",
            *(
                f"actions.{action}.{resource}"
                for action, triggers in OverloadActions().items()
                for resource in triggers.__struct_fields__
            ),
        ),
    ),
    (
        Effect.LIVE,
        Reach.AT_ONCE,
        "resilience.watchdog",
        (
            "enabled", "check_interval_ms", "poll_stall_timeout_ms", "timeout_error_rate_percent",
            "min_requests_per_window", "unhealthy_consecutive_windows", "drain_grace_ms",
            "restart_cooldown_ms",
        ),
    ),
)  # fmt: skip


def stated() -> Iterator[tuple[str, Outcome]]:
    """Yield what is stated of each setting, in the order of the table."""
    for effect, reach, place, keys in _GROUPS:
        for key in keys:
            yield f"{place}.{key}" if place else key, Outcome(effect, reach)


OUTCOMES: Final[Mapping[str, Outcome]] = dict(stated())
"""What a change takes, by path in the schema as in ``upstream.<name>.backends[].weight``."""
