"""What a configuration leaves open: settings that are less safe than they could be.

A default configuration leaves nothing open. Whoever opens something may have good reasons; this
says what it means.
"""

import ipaddress
import os
import stat
from collections.abc import Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from spooky.config.hosts import EMBEDDED_SCHEME, parse_backend_address
from spooky.config.listener_tls import ClientAuth
from spooky.config.networks import parse_network
from spooky.config.problems import InvalidValueError, Path
from spooky.config.schema import Configuration, Listener, Upstream

FAR_MORE: Final = 10
"""A limit so many times its default or more limits hardly anything."""

WIDEST: Final = {4: 8, 6: 16}
"""The shortest prefix, by IP version, that one organisation has of its own."""

LIMITS: Final = (
    *(
        f"performance.{key}"
        for key in (
            "max_active_connections", "max_half_open_connections", "new_connections_per_sec",
            "new_connections_burst", "new_connections_per_source_per_sec",
            "new_connections_per_source_burst", "quic_initial_max_streams_bidi",
            "global_inflight_limit", "per_upstream_inflight_limit", "per_backend_inflight_limit",
            "request_buffer_global_cap_bytes", "retry_buffer_global_cap_bytes",
            "client_rate_grace_ms",
        )
    ),
    *(f"resilience.protocol.glitches.{key}" for key in ("connection_budget", "source_budget")),
)  # fmt: skip
"""Limits on what clients can take; null is no limit."""

RATES: Final = (
    "performance.client_min_request_bytes_per_sec",
    "performance.client_min_stream_bytes_per_sec",
    "performance.client_min_response_bytes_per_sec",
)
"""Limits on how slow clients may be: the lower, the less; null is no limit."""

_DEFAULTS: Final = Configuration(upstream={})


class Finding(NamedTuple):
    """Something that is left open.

    Attributes:
        path: Where in the configuration.
        meaning: What others can do because of it.
        safe: What would be safe.
    """

    path: Path
    meaning: str
    safe: str


def find_exposures(configuration: Configuration) -> list[Finding]:
    """Return what a valid configuration leaves open, in the order of its sections."""
    return [
        *_listeners(configuration),
        *_upstreams(configuration),
        *_limits(configuration),
        *_control(configuration),
        *_processes(configuration),
        *_key_files(configuration),
    ]


def _listeners(configuration: Configuration) -> Iterator[Finding]:
    for place, listener in enumerate(configuration.active_listeners):
        path: Path = ("listeners", place) if configuration.listeners else ("listen",)
        yield from _listener(path, listener)
        for number, other in enumerate(configuration.active_listeners):
            shared = _served(listener, demands=False) & _served(other, demands=True)
            if shared and other is not listener:
                yield Finding(
                    (*path, "tls", "client_auth", "require_client_cert"),
                    f"clients without a certificate ask here for the hosts of {min(shared)}, for "
                    f"which {_place(other)} (listeners[{number}]) requires one",
                    f"true, or another certificate for {_place(listener)}",
                )


def _served(listener: Listener, *, demands: bool) -> set[str]:
    """Return the certificates, by their files, that a listener shows to clients.

    Arguments:
        demands: Whether to those who need a certificate, or to those who do not.
    """
    tls = listener.tls
    shown = [(each.cert, tls.client_auth_of(each)) for each in tls.certificates]
    default = tls.default_certificate()
    if default is not None:
        shown.append((default[0], tls.client_auth))
    return {os.path.realpath(file) for file, auth in shown if auth.demands == demands}


def _place(listener: Listener) -> str:
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    return f"{host}:{listener.port}"


def _listener(path: Path, listener: Listener) -> Iterator[Finding]:
    tls = listener.tls
    if not tls.strict_authority:
        yield Finding(
            (*path, "tls", "strict_authority"),
            "over a connection for one host, clients may ask for every other",
            "true",
        )
    yield from _client_auth((*path, "tls", "client_auth"), tls.client_auth)
    for number, certificate in enumerate(tls.certificates):
        place = (*path, "tls", "certificates", number, "client_auth")
        own = certificate.client_auth
        if own is None:
            continue
        yield from _client_auth(place, own)
        if tls.client_auth.demands and not own.enabled:
            yield Finding(
                (*place, "enabled"),
                f"clients without a certificate are served as {certificate.server_name}, though "
                "the listener requires one",
                "true, or null for what the listener asks",
            )
    for number, cidr in enumerate(listener.client_address.trusted_cidrs):
        network = parse_network(cidr)
        if network.prefixlen < WIDEST[network.version]:
            yield Finding(
                (*path, "client_address", "trusted_cidrs", number),
                f"whoever connects from {cidr} can pose as any client",
                "the addresses of the proxies before this one",
            )


def _client_auth(path: Path, auth: ClientAuth) -> Iterator[Finding]:
    if auth.enabled and not auth.require_client_cert:
        yield Finding(
            (*path, "require_client_cert"),
            "clients without a certificate are served like those with one",
            "true",
        )


def _upstreams(configuration: Configuration) -> Iterator[Finding]:
    for name, upstream in configuration.upstream.items():
        path: Path = ("upstream", name)
        mode = upstream.forwarded_headers.mode
        if mode != "overwrite":
            yield Finding(
                (*path, "forwarded_headers", "mode"),
                "backends read in forwarding fields what clients wrote",
                "overwrite",
            )
        yield from _backend_tls(path, configuration, name)
        yield from _clear_text(path, upstream)


def _backend_tls(path: Path, configuration: Configuration, name: str) -> Iterator[Finding]:
    upstream = configuration.upstream[name]
    if all(_host_in_clear(each.address) is not None for each in upstream.backends):
        return
    tls = configuration.tls_of(name)
    place: Path = (*path, "tls") if upstream.tls is not None else ("upstream_tls",)
    if not tls.verify_certificates:
        yield Finding(
            (*place, "verify_certificates"),
            f"whoever is on the network path can pose as the backends of {name}",
            "true, with ca_file where they have an authority of their own",
        )
    elif not tls.strict_sni:
        yield Finding(
            (*place, "strict_sni"),
            f"whoever has a certificate of any trusted authority can pose as backends of {name}",
            "true",
        )


def _clear_text(path: Path, upstream: Upstream) -> Iterator[Finding]:
    for number, backend in enumerate(upstream.backends):
        host = _host_in_clear(backend.address)
        if host and not _is_here(host):
            yield Finding(
                (*path, "backends", number, "address"),
                "whoever is on the network path reads and changes requests and responses",
                "https://",
            )


def _host_in_clear(address: str) -> str | None:
    """Return the host that is spoken to without TLS; empty for none; ``None`` with TLS."""
    try:
        parsed = parse_backend_address(address)
    except InvalidValueError:
        return ""
    if parsed.scheme == EMBEDDED_SCHEME:
        return ""
    return parsed.host if parsed.scheme == "http" else None


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _limits(configuration: Configuration) -> Iterator[Finding]:
    for key in LIMITS:
        value, default = attrgetter(key)(configuration), attrgetter(key)(_DEFAULTS)
        if default is not None and (value is None or value >= FAR_MORE * default):
            yield Finding(
                tuple(key.split(".")),
                "clients can take so much that nothing is left for others",
                f"{default}, or what the machine was measured to bear",
            )
    for key in RATES:
        value, default = attrgetter(key)(configuration), attrgetter(key)(_DEFAULTS)
        if default is not None and (value is None or value * FAR_MORE <= default):
            yield Finding(
                tuple(key.split(".")),
                "a client that moves a byte now and then keeps its request for ever",
                str(default),
            )
    if configuration.performance.quic_retry == "never":
        yield Finding(
            ("performance", "quic_retry"),
            "under a flood from forged addresses new QUIC clients find no place",
            _DEFAULTS.performance.quic_retry,
        )
    resilience = configuration.resilience
    for path, value, meaning in (
        (
            ("overload", "enabled"), resilience.overload.enabled,
            "a machine that runs out of memory or files fails for all instead of for some",
        ),
        (
            ("protocol", "enforce_authority_host_match"),
            resilience.protocol.enforce_authority_host_match,
            "a request can name one host to Spooky and another to its backend",
        ),
    ):  # fmt: skip
        if not value:
            yield Finding(("resilience", *path), meaning, "true")
    if resilience.protocol.underscores_in_headers == "pass":
        yield Finding(
            ("resilience", "protocol", "underscores_in_headers"),
            "backends that speak CGI or WSGI take x_forwarded_for of clients for x-forwarded-for",
            _DEFAULTS.resilience.protocol.underscores_in_headers,
        )
    if resilience.protocol.allow_0rtt:
        yield Finding(
            ("resilience", "protocol", "allow_0rtt"),
            "whoever records the first packets of a client can send its requests again",
            "false, unless backends bear every early request twice",
        )


def _control(configuration: Configuration) -> Iterator[Finding]:
    metrics, api = configuration.observability.metrics, configuration.observability.control_api
    if metrics.enabled and not _is_here(metrics.address):
        yield Finding(
            ("observability", "metrics", "address"),
            "whoever reaches this address reads all figures, names of backends included",
            "127.0.0.1",
        )
    if not api.enabled:
        return
    path: Path = ("observability", "control_api")
    if not api.authenticates:
        yield Finding(
            (*path, "auth"),
            "every user of this machine may read the state and the configuration",
            "bearer_tokens or certificates; or leave it off and use the control socket",
        )
    if not _is_here(api.address) and not api.ip_allowlist.cidrs:
        yield Finding(
            (*path, "ip_allowlist", "cidrs"),
            "callers may be anywhere that reaches this address",
            "the networks of those who operate",
        )
    if not api.audit.enabled:
        yield Finding((*path, "audit", "enabled"), "nobody can tell who changed what", "true")


def _processes(configuration: Configuration) -> Iterator[Finding]:
    security = configuration.security
    if not security.privileges.enabled:
        yield Finding(
            ("security", "privileges", "enabled"),
            "started by root, a worker that a client takes over is root",
            "true",
        )
    if not security.sandbox:
        yield Finding(
            ("security", "sandbox"),
            "a worker that a client takes over can do whatever its user may",
            "true",
        )


def _key_files(configuration: Configuration) -> Iterator[Finding]:
    for path, file in _named_keys(configuration):
        try:
            mode = stat.S_IMODE(os.stat(file).st_mode)
        except OSError:
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(path, f"others may read or change {file} (mode {mode:04o})", "mode 0600")


def _named_keys(configuration: Configuration) -> Iterator[tuple[Path, str]]:
    for place, listener in enumerate(configuration.active_listeners):
        path: Path = ("listeners", place) if configuration.listeners else ("listen",)
        if listener.tls.key:
            yield (*path, "tls", "key"), listener.tls.key
        for number, each in enumerate(listener.tls.certificates):
            yield (*path, "tls", "certificates", number, "key"), each.key
    for name, upstream in configuration.upstream.items():
        if upstream.tls is not None and upstream.tls.client_key:
            yield ("upstream", name, "tls", "client_key"), upstream.tls.client_key
    if configuration.upstream_tls.client_key:
        yield ("upstream_tls", "client_key"), configuration.upstream_tls.client_key
    api = configuration.observability.control_api
    if api.enabled and api.tls.key:
        yield ("observability", "control_api", "tls", "key"), api.tls.key
