"""Keys and values that this version refuses by name: they have a meaning, but do not work yet.

To support a key, give it a field in the schema and remove it here.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from spooky.config.problems import Path

Tree: TypeAlias = dict[str, "Tree"]
"""Keys by name; ``*`` stands for any name, ``[]`` for the entries of a list."""

_TLS_REFERENCES: Final = ("client_certificate_ref", "client_key_ref")
_AUTH: Final = "upstream.*.auth"
_CONTROL_API: Final = "observability.control_api"
_QUOTA: Final = "resilience.quota"

UNSUPPORTED_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream.*.tls": _TLS_REFERENCES,
    "upstream_tls": _TLS_REFERENCES,
    f"{_AUTH}.api_key": ("header_name", "keys"),
    f"{_AUTH}.jwt": (
        "secret", "secret_ref", "issuer", "issuers", "audience", "audiences",
        "allowed_algorithms", "require_kid", "jwks_url", "jwks_refresh_interval_secs",
        "jwks_request_timeout_ms", "jwks_cache_ttl_secs", "jwks_stale_if_error_secs",
        "jwks_startup_behavior", "clock_skew_secs",
    ),
    f"{_AUTH}.jwt.static_keys.[]": ("kind", "kid", "alg", "public_key_pem", "jwk"),
    f"{_AUTH}.external_auth": (
        "kind", "endpoint", "request_headers", "response_header_allowlist", "timeout_ms",
        "failure_mode", "discovery_url", "issuer_url", "client_id", "client_secret",
        "client_secret_ref", "audience", "scopes",
    ),
    _AUTH: ("required_scopes", "required_roles"),
    "secrets": ("default_provider",),
    "secrets.providers.*": ("kind", "base_dir"),
    "performance": (
        "control_plane_threads", "reuseport", "pin_workers",
        "packet_shards_per_worker", "packet_shard_queue_capacity", "packet_shard_queue_max_bytes",
    ),
    _CONTROL_API: ("auth_token", "auth_token_ref"),
    f"{_CONTROL_API}.tls.client_auth": ("ca_dir",),
    f"{_CONTROL_API}.auth.bearer_tokens.[]": ("token", "token_ref"),
    f"{_CONTROL_API}.auth.identity_source": ("role_attribute",),
    f"{_CONTROL_API}.authorization": (
        "runtime_read_role", "runtime_mutate_role", "restart_role",
    ),
    f"{_CONTROL_API}.ip_allowlist": ("trusted_proxy_cidrs", "trust_proxy_headers"),
    f"{_CONTROL_API}.audit": ("format",),
    "observability.tracing": ("enabled", "service_name", "otlp_endpoint", "sample_ratio"),
    "observability.routing": ("enabled", "include_reason", "expose_header", "header_name"),
    "resilience.scoped_rate_limits.[]": (
        "name", "scope", "requests_per_sec", "burst", "key", "route_allowlist", "idle_ttl_secs",
    ),
    _QUOTA: ("enabled", "enforcement", "backend_failure_policy"),
    f"{_QUOTA}.backend": (
        "kind", "key_prefix", "url", "connect_timeout_ms", "command_timeout_ms", "max_inflight",
    ),
    f"{_QUOTA}.local_fallback": ("key_prefix", "max_entries"),
    f"{_QUOTA}.policies.[]": ("name", "route_allowlist"),
    f"{_QUOTA}.policies.[].selector": ("route",),
    f"{_QUOTA}.policies.[].selector.tenant": ("key",),
    f"{_QUOTA}.policies.[].selector.token": ("key",),
    f"{_QUOTA}.policies.[].selector.client": ("key",),
    f"{_QUOTA}.policies.[].burst": ("requests", "window_secs"),
    f"{_QUOTA}.policies.[].sustained": ("requests", "window_secs"),
    "resilience.protocol": (
        "allow_connect", "connect_allowed_ports", "connect_allowed_authorities",
    ),
    "resilience.watchdog": ("overload_inflight_percent", "restart_command", "restart_hook"),
}  # fmt: skip
"""Keys by the path of the mapping they are in."""

_NO_COMMAND: Final = (
    "remove it: the supervisor replaces the worker itself, and the service manager the service "
    "(docs/operations/systemd.md)"
)

REMEDIES: Final[Mapping[Path, str]] = {
    ("resilience", "watchdog", "overload_inflight_percent"): (
        "remove it: many requests in flight are load, which admission limits; a new worker would "
        "have no less of it"
    ),
    ("resilience", "watchdog", "restart_command"): _NO_COMMAND,
    ("resilience", "watchdog", "restart_hook"): _NO_COMMAND,
}
"""What to do about a key that will never be supported, and why; of others it is to remove it."""

UNSUPPORTED_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream.*.route.method": ("CONNECT",),
    "routes.[].method": ("CONNECT",),
    "resilience.protocol.allowed_methods.[]": ("CONNECT",),
}
"""Values by the path of the key."""


def unsupported_tree(path: Path) -> Tree | None:
    """Return what is known and unsupported at a path, itself or below it; ``None`` if nothing."""
    tree = _TREE
    for step in path:
        name = "[]" if isinstance(step, int) else step
        below = tree.get(name, tree.get("*") if name != "[]" else None)
        if below is None:
            return None
        tree = below
    return tree


def is_unsupported_value(path: Path, value: str) -> bool:
    """Return whether a value has a meaning at a path but does not work yet."""
    return value.lower() in _VALUES and any(
        _matches(pattern, path) and value.lower() in map(str.lower, values)
        for pattern, values in UNSUPPORTED_VALUES.items()
    )


def _matches(pattern: str, path: Path) -> bool:
    steps = pattern.split(".")
    return len(steps) == len(path) and all(
        name == "[]" if isinstance(step, int) else name in ("*", step)
        for name, step in zip(steps, path, strict=True)
    )


def _build_tree() -> Tree:
    root: Tree = {}
    for place, names in UNSUPPORTED_KEYS.items():
        tree = root
        for step in place.split("."):
            tree = tree.setdefault(step, {})
        for name in names:
            tree.setdefault(name, {})
    return root


_TREE: Final = _build_tree()
_VALUES: Final = frozenset(v.lower() for values in UNSUPPORTED_VALUES.values() for v in values)
