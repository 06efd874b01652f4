"""The proxies that are measured, each configured for the same: one worker a core, no access log."""

import contextlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from spooky.bench.programs import LOOPBACK, BenchError, Program, find_program, free_port, running
from spooky.edge.self_signed import self_signed

START_SECONDS: Final = 20.0
"""Time to listen; seconds."""

PEERS_REMEDY: Final = "pip install 'spooky[bench]'"

PLENTY: Final = 1_000_000
"""Where a proxy has a limit that is no part of what is measured: more than a load can reach."""

IDLE_SECONDS: Final = 120
"""How long connections may be silent, everywhere the same; seconds."""

UPSTREAM_WINDOW: Final = 256 * 1024 * 1024
"""What a backend connection of Envoy may have outstanding, where 24 MiB by default let clients that
read slowly stop all others; bytes."""

STREAMS: Final = 128
"""Requests that a connection may have in flight, everywhere the same."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a proxy is started for.

    Attributes:
        directory: For its files; its own.
        backend_port: Of the HTTP/2 backend.
        workers: How many it has.
        cores: Where it runs.
    """

    directory: Path
    backend_port: int
    workers: int
    cores: Sequence[int]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy.

    Attributes:
        name: By which it is chosen, in lower case.
        port: UDP.
        program: Its process, the root of all of them.
    """

    name: str
    port: int
    program: Program


Start = Callable[[Setting], contextlib.AbstractContextManager[Proxy]]


def make_certificate(directory: Path) -> tuple[str, str]:
    """Write a certificate and its key; all proxies have ECDSA P-256."""
    made = self_signed()
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return str(certificate), str(key)


def write_configuration(path: Path, configuration: Any) -> str:
    """Write JSON, which is YAML too."""
    path.write_bytes(msgspec.json.encode(configuration))
    return str(path)


@contextlib.contextmanager
def spooky(setting: Setting) -> Iterator[Proxy]:
    """Run this Spooky."""
    port = free_port()
    certificate, key = make_certificate(setting.directory)
    configuration = {
        "version": 1,
        "listen": {
            "address": LOOPBACK,
            "port": port,
            "tls": {"cert": certificate, "key": key},
        },
        "upstream": {
            "backend": {
                "protocol": "http2",
                "route": {"path_prefix": "/"},
                "backends": [{"id": "one", "address": f"http://{LOOPBACK}:{setting.backend_port}"}],
            }
        },
        "access_log": {"enabled": False},
        "performance": {
            "worker_threads": setting.workers,
            "max_active_connections": PLENTY,
            "max_half_open_connections": PLENTY,
            "new_connections_per_sec": PLENTY,
            "new_connections_burst": PLENTY,
            "new_connections_per_source_per_sec": PLENTY,
            "new_connections_per_source_burst": PLENTY,
            "quic_max_idle_timeout_ms": IDLE_SECONDS * 1000,
            "quic_initial_max_streams_bidi": STREAMS,
            "global_inflight_limit": PLENTY,
            "per_upstream_inflight_limit": PLENTY,
            "per_backend_inflight_limit": PLENTY,
        },
    }
    path = write_configuration(setting.directory / "spooky.yaml", configuration)
    arguments = [sys.executable, "-m", "spooky.cli.main", "serve", "--config", path]
    # Else its generations would be in the history of a Spooky that serves on this machine.
    environment = {
        "STATE_DIRECTORY": str(setting.directory / "state"),
        "XDG_RUNTIME_DIR": str(setting.directory),
    }
    with running("spooky", arguments, setting.directory, setting.cores, environment) as program:
        yield Proxy("spooky", port, program)


@contextlib.contextmanager
def caddy(setting: Setting) -> Iterator[Proxy]:
    """Run Caddy, without its admin endpoint; Go's scheduler has as many threads as workers."""
    found = find_program("caddy", PEERS_REMEDY)
    port = free_port()
    certificate, key = make_certificate(setting.directory)
    path = setting.directory / "Caddyfile"
    path.write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https off
              skip_install_trust
              default_bind {LOOPBACK}
              servers {{
                timeouts {{
                  idle {IDLE_SECONDS}s
                }}
              }}
            }}
            https://localhost:{port} {{
              tls {certificate} {key}
              reverse_proxy h2c://{LOOPBACK}:{setting.backend_port}
            }}
            """
        )
    )
    arguments = [found, "run", "--adapter", "caddyfile", "--config", str(path)]
    environment = {
        "GOMAXPROCS": str(setting.workers),
        "XDG_CONFIG_HOME": str(setting.directory),
        "XDG_DATA_HOME": str(setting.directory),
    }
    with running("caddy", arguments, setting.directory, setting.cores, environment) as program:
        yield Proxy("caddy", port, program)


ENVOY_API: Final = "type.googleapis.com/envoy.extensions"


def envoy_listener(
    port: int,
    certificate: str,
    key: str,
    filters: Sequence[dict[str, Any]] = (),
    route: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a listener of Envoy's that speaks HTTP/3.

    Arguments:
        filters: What requests pass before they are routed.
        route: What is said of the one route besides where it leads.
    """
    manager = {
        "@type": f"{ENVOY_API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "HTTP3",
        "stat_prefix": "ingress",
        "http3_protocol_options": {
            "quic_protocol_options": {"max_concurrent_streams": STREAMS},
        },
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_SECONDS}s"},
        "http_filters": [
            *filters,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{ENVOY_API}.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "backend", "timeout": "0s", **(route or {})},
                        }
                    ],
                }
            ]
        },
    }
    tls = {
        "@type": f"{ENVOY_API}.transport_sockets.quic.v3.QuicDownstreamTransport",
        "downstream_tls_context": {
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": certificate},
                        "private_key": {"filename": key},
                    }
                ]
            }
        },
    }
    return {
        "address": {"socket_address": {"protocol": "UDP", "address": LOOPBACK, "port_value": port}},
        "reuse_port": True,
        "udp_listener_config": {
            "quic_options": {
                "quic_protocol_options": {
                    "max_concurrent_streams": STREAMS,
                },
                "idle_timeout": f"{IDLE_SECONDS}s",
            },
            # Without it Envoy drops what the kernel has coalesced, so uploads crawl.
            "downstream_socket_config": {"prefer_gro": True},
        },
        "filter_chains": [
            {
                "transport_socket": {
                    "name": "envoy.transport_sockets.quic",
                    "typed_config": tls,
                },
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ],
            }
        ],
    }


def _envoy_cluster(backend_port: int) -> dict[str, Any]:
    thresholds = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), PLENTY
    )
    endpoint = {"socket_address": {"address": LOOPBACK, "port_value": backend_port}}
    return {
        "name": "backend",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [thresholds]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{ENVOY_API}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"initial_connection_window_size": UPSTREAM_WINDOW}
                },
            }
        },
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
    }


@contextlib.contextmanager
def envoy(setting: Setting) -> Iterator[Proxy]:
    """Run Envoy, with the breakers out of the way."""
    found = find_program("envoy", PEERS_REMEDY)
    port = free_port()
    certificate, key = make_certificate(setting.directory)
    configuration = {
        "static_resources": {
            "listeners": [envoy_listener(port, certificate, key)],
            "clusters": [_envoy_cluster(setting.backend_port)],
        }
    }
    path = write_configuration(setting.directory / "envoy.json", configuration)
    arguments = [found, "--config-path", path, "--concurrency", str(setting.workers)]
    arguments += ["--disable-hot-restart", "--log-level", "error"]
    with running("envoy", arguments, setting.directory, setting.cores) as program:
        yield Proxy("envoy", port, program)


def wait_for_udp(proxy: Proxy) -> None:
    """Wait until a proxy's UDP port is bound.

    What is sent from then on waits in the socket, even if nobody reads it yet.

    Raises:
        BenchError: It is not bound in time.
    """
    wanted = f":{proxy.port:04X} "
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        proxy.program.check()
        if wanted in Path("/proc/net/udp").read_text():
            return
        time.sleep(0.02)
    raise BenchError(
        f"{proxy.name} does not listen on UDP port {proxy.port}", proxy.program.last_words()
    )


PEERS: Final[dict[str, Start]] = {"caddy": caddy, "envoy": envoy}
"""What Spooky can be measured against, by name."""
