"""What an operator can ask for: the typed configuration, version 1.

Attribute names are the YAML keys. A ``Configuration`` is immutable; :mod:`spooky.config.loading`
makes one from a file.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta
from msgspec.structs import force_setattr

from spooky.config.client_address import ClientAddress
from spooky.config.control import Control
from spooky.config.fields import Count, Section, described
from spooky.config.forwarding import ForwardedHeaders, HostPolicy
from spooky.config.health import HealthCheck
from spooky.config.listener_tls import ListenerTLS
from spooky.config.observability import Observability
from spooky.config.outlier_detection import OutlierDetection
from spooky.config.overload import Priority
from spooky.config.performance import Performance
from spooky.config.resilience import Resilience
from spooky.config.retries import RetrySettings
from spooky.config.security import Security
from spooky.config.slow_start import SlowStart

DEFAULT_PATH: Final = "/etc/spooky/config.yaml"
DEFAULT_PORT: Final = 9889

WEIGHT_MAX: Final = 1_000  # keeps ring and Maglev layouts small whatever the weights
NAME_LENGTH_MAX: Final = 128  # names become metric labels and log fields
BALANCE_FACTOR_MAX: Final = 100  # beyond this a bound on load bounds nothing

BALANCING_ALIASES: Final[Mapping[str, str]] = {
    "round_robin": "round-robin",
    "rr": "round-robin",
    "consistent_hash": "consistent-hash",
    "ch": "consistent-hash",
    "least_request": "least-request",
    "least-connections": "least-request",
    "least_connections": "least-request",
    "lc": "least-request",
    "latency_aware": "latency-aware",
    "la": "latency-aware",
    "sticky_cid": "sticky-cid",
    "cid-sticky": "sticky-cid",
    "cid_sticky": "sticky-cid",
}
"""Other spellings of balancing types; a loaded configuration has only the canonical ones."""

BALANCING_TYPES: Final = (
    "round-robin", "random", "consistent-hash", "maglev", "least-request", "latency-aware",
    "sticky-cid",
)  # fmt: skip
"""The canonical balancing types."""

HASHING_TYPES: Final = ("consistent-hash", "maglev", "sticky-cid")
"""The balancing types that use a key and may bound the load."""

BALANCING_KEYS: Final = ("path", "authority", "method", "cid", "client_ip", "bearer_token")
"""Key sources without a name."""

BALANCING_KEY_ALIASES: Final[Mapping[str, str]] = {"sticky-cid": "cid", "peer_ip": "client_ip"}
"""Other spellings of key sources; a loaded configuration has only the canonical ones."""

BALANCING_NAMED_KEYS: Final = ("header", "cookie", "query")
"""Key sources written as ``SOURCE:NAME``."""

BalancingType: TypeAlias = Literal[
    "round-robin", "round_robin", "rr",
    "random",
    "consistent-hash", "consistent_hash", "ch",
    "maglev",
    "least-request", "least_request", "least-connections", "least_connections", "lc",
    "latency-aware", "latency_aware", "la",
    "sticky-cid", "sticky_cid", "cid-sticky", "cid_sticky",
]  # fmt: skip


# --- listeners --------------------------------------------------------------------------------
class Listener(Section, frozen=True):
    """Where clients come in: HTTP/3 on UDP, HTTP/2 and HTTP/1.1 over TLS on TCP, same port."""

    protocol: Annotated[
        Literal["http3"], described("HTTP/3, with HTTP/2 and HTTP/1.1 beside it.", identity=True)
    ] = "http3"
    address: Annotated[
        str,
        described("IP address to listen on; `0.0.0.0` for all IPv4, `::` for all.", identity=True),
    ] = "0.0.0.0"
    port: Annotated[
        int,
        Meta(ge=0, le=65_535),
        described(
            "UDP and TCP port; 0 takes a free one, the same for both.",
            hazard="Firewalls that open a port for TCP often leave UDP closed: then no client "
            "ever uses HTTP/3.",
            identity=True,
        ),
    ] = DEFAULT_PORT
    tls: Annotated[ListenerTLS, described("Certificates; a listener needs at least one.")] = (
        ListenerTLS()
    )
    client_address: Annotated[
        ClientAddress, described("Whose word is taken for where clients are.")
    ] = ClientAddress()


# --- upstreams --------------------------------------------------------------------------------
class Route(Section, frozen=True):
    """Which requests go to an upstream; what is given must all match.

    The order of upstreams does not matter. A longer path prefix wins, then a host over none, an
    exact host over a wildcard, a longer wildcard, a method over none.
    """

    host: Annotated[
        str | None,
        described(
            "Host name, exact or `*.` and a domain (any names below it, not the domain itself); "
            "null for every host.",
            identity=True,
        ),
    ] = None
    path_prefix: Annotated[
        str | None,
        described(
            "Path prefix, matched on segment boundaries: `/api` matches `/api` and `/api/x`, not "
            "`/apix`. Null for every path. Route by `host`, `path_prefix` or both.",
            identity=True,
        ),
    ] = None
    method: Annotated[
        str | None, described("Request method; null for every method.", identity=True)
    ] = None
    priority: Annotated[
        Priority,
        described(
            "Under overload, requests of `low` routes are shed first, then `normal`, then `high`; "
            "`core` last."
        ),
    ] = "normal"
    max_inflight: Annotated[
        Count | None,
        described(
            "Requests in flight by this route; more get 503 (`route_cap`). Per machine. Null: the "
            "limits of its upstream alone count."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.method is not None:
            force_setattr(self, "method", self.method.upper())


class UpstreamRoute(Route, frozen=True, kw_only=True):
    """A route that stands apart from the upstream it leads to."""

    upstream: Annotated[str, described("Name of the upstream that the requests go to.")]


class Backend(Section, frozen=True):
    """One server of an upstream."""

    id: Annotated[
        str,
        Meta(min_length=1, max_length=NAME_LENGTH_MAX),
        described(
            "Name of the backend, unique in its upstream: in logs and metrics, and its place on "
            "hash rings.",
            hazard="Renaming a backend moves its share of a consistent hash.",
            identity=True,
        ),
    ]
    address: Annotated[
        str,
        described(
            "`http://HOST[:PORT]`, `https://HOST[:PORT]` or `HOST[:PORT]`, which means https; "
            "IPv6 addresses in brackets. `app:NAME` is an application embedded with Spooky.",
            hazard="Without `http://` the backend is spoken to over TLS.",
        ),
    ]
    weight: Annotated[
        int,
        Meta(ge=1, le=WEIGHT_MAX),
        described("Share of the requests, relative to the other backends."),
    ] = 100
    state: Annotated[
        Literal["enabled", "drained", "disabled"],
        described(
            "`enabled` takes requests. `drained` takes no new ones; those it has finish, however "
            "long they take, and its place on hash rings stays. `disabled` is as if it were not "
            "listed: its connections are closed after `performance.shutdown_drain_timeout_ms`.",
            hazard="An upstream without an enabled backend answers 503.",
        ),
    ] = "enabled"
    health_check: Annotated[
        HealthCheck | None,
        described(
            "How it is asked whether it can serve. Null: it is not asked, and always in the choice."
        ),
    ] = None

    @property
    def is_listed(self) -> bool:
        """Whether it has connections, and a place on hash rings."""
        return self.state != "disabled"


class LoadBalancing(Section, frozen=True):
    """How an upstream's requests are spread over its backends."""

    type: Annotated[
        BalancingType,
        described(
            "`round-robin` in turn; `random`; `consistent-hash` (ring) and `maglev` by key; "
            "`least-request` the less busy of two; `latency-aware` the faster to answer; "
            "`sticky-cid` by client connection. All honour weights. The other names are "
            "spellings of these."
        ),
    ] = "round-robin"
    key: Annotated[
        str | None,
        described(
            "What the hashing types hash: `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, "
            "`authority`, `method`, `cid`, `client_ip` (or `peer_ip`), `bearer_token`. A request "
            "that lacks it falls back to its authority, then path, then method."
        ),
    ] = None
    balance_factor: Annotated[
        Annotated[float, Meta(ge=1, le=BALANCE_FACTOR_MAX)] | None,
        described(
            "For the hashing types: a backend takes at most this times its fair share of requests "
            "in flight, the overflow goes elsewhere. 1.25 is a good start; null for no bound.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.type in BALANCING_ALIASES:
            force_setattr(self, "type", BALANCING_ALIASES[self.type])
        if self.key is not None:
            force_setattr(self, "key", _canonical_key(self.key))


def _canonical_key(key: str) -> str:
    """Return a key source in the one spelling that a loaded configuration has."""
    source, colon, name = key.partition(":")
    source = source.lower()
    if source == "header":
        name = name.lower()
    return f"{BALANCING_KEY_ALIASES.get(source, source)}{colon}{name}"


class UpstreamTLS(Section, frozen=True):
    """TLS towards backends with `https` addresses."""

    verify_certificates: Annotated[
        bool,
        described(
            "Verify that a backend's certificate chains to a trusted authority and is in date.",
            hazard="Off: whoever can reach the network path can pose as the backend.",
        ),
    ] = True
    strict_sni: Annotated[
        bool,
        described(
            "Require the certificate to name the host of the backend's address.",
            hazard="Off: any certificate of a trusted authority passes.",
        ),
    ] = True
    ca_file: Annotated[
        str | None,
        described("PEM file of authorities trusted besides the system's.", path=True),
    ] = None
    ca_dir: Annotated[
        str | None,
        described("Directory of PEM files of authorities, trusted likewise.", path=True),
    ] = None
    client_certificate: Annotated[
        str | None,
        described("PEM file of the certificate shown to backends that ask for one.", path=True),
    ] = None
    client_key: Annotated[
        str | None, described("PEM file of its private key.", path=True, secret=True)
    ] = None


class Upstream(Section, frozen=True, kw_only=True):
    """A group of backends that serve the same requests."""

    route: Annotated[
        Route | None,
        described("Which requests go to this upstream; null where only `routes` lead to it."),
    ] = None
    backends: Annotated[
        tuple[Backend, ...],
        Meta(min_length=1),
        described("The servers that requests are spread over."),
    ]
    protocol: Annotated[
        Literal["auto", "http1", "http2", "http3"],
        described(
            "Protocol spoken to backends. `auto`: over TLS what ALPN settles (HTTP/2, else "
            "HTTP/1.1), without TLS HTTP/1.1. `http2` without TLS is HTTP/2 by prior knowledge. "
            "`http3` is for `https` backends, on the UDP port of their address."
        ),
    ] = "auto"
    panic_threshold_percent: Annotated[
        int,
        Meta(ge=0, le=100),
        described(
            "Where fewer than this share of the backends can serve, all of them get requests: "
            "those left would only fail too. Where none can, requests get 503 at once.",
            hazard="At 100, one failing backend is not taken out of the choice.",
        ),
    ] = 50
    outlier_detection: Annotated[
        OutlierDetection,
        described("How backends are found that serve worse than the others."),
    ] = OutlierDetection()
    slow_start: Annotated[
        SlowStart | None,
        described(
            "How the weight of a new or returning backend grows; null for its whole weight at "
            "once. For balancing types that hash no key."
        ),
    ] = None
    load_balancing: Annotated[
        LoadBalancing | None,
        described("How requests are spread; null for the top-level `load_balancing`."),
    ] = None
    retry: Annotated[
        RetrySettings | None,
        described(
            "When requests are tried again; replaces `resilience.retry` as a whole; null for that."
        ),
    ] = None
    host_policy: Annotated[HostPolicy, described("The authority that backends see.")] = HostPolicy()
    forwarded_headers: Annotated[
        ForwardedHeaders, described("What backends learn about the client.")
    ] = ForwardedHeaders()
    tls: Annotated[
        UpstreamTLS | None,
        described(
            "TLS towards these backends; replaces the top-level `upstream_tls` as a whole; null "
            "for that."
        ),
    ] = None

    @property
    def listed_backends(self) -> tuple[Backend, ...]:
        """The backends that are not disabled."""
        return tuple(backend for backend in self.backends if backend.is_listed)


# --- logs -------------------------------------------------------------------------------------
class LogFile(Section, frozen=True):
    """Where the log goes."""

    enabled: Annotated[bool, described("Write the log to a file instead of stderr.")] = False
    path: Annotated[
        str,
        described("The file; reopened on SIGUSR1, so that it can be rotated.", path=True),
    ] = "/var/log/spooky/spooky.log"


class Log(Section, frozen=True):
    """What Spooky says about itself."""

    level: Annotated[
        Literal["off", "error", "warn", "info", "debug", "trace"],
        described("Least severity that is written."),
    ] = "info"
    format: Annotated[Literal["plain", "json"], described("Text for people, or JSON lines.")] = (
        "plain"
    )
    file: Annotated[LogFile, described("Write to a file instead of stderr.")] = LogFile()


class AccessLog(Section, frozen=True):
    """One line for each request; independent of `log`."""

    enabled: Annotated[bool, described("Write the access log.")] = True
    format: Annotated[Literal["plain", "json"], described("Text for people, or JSON lines.")] = (
        "plain"
    )
    path: Annotated[
        str | None,
        described(
            "The file; reopened on SIGUSR1, so that it can be rotated. Null for stderr.", path=True
        ),
    ] = None


# --- the whole --------------------------------------------------------------------------------
class Configuration(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    version: Annotated[Literal[1], described("Version of this format.")] = 1
    listen: Annotated[
        Listener | None,
        described("The listener; not used when there are `listeners`."),
    ] = None
    listeners: Annotated[
        tuple[Listener, ...],
        described("Several listeners; `listen` or at least one of these is required."),
    ] = ()
    upstream: Annotated[
        dict[str, Upstream],
        Meta(min_length=1),
        described("Backends and the requests they serve, by name."),
    ]
    routes: Annotated[
        tuple[UpstreamRoute, ...],
        described(
            "More routes, to upstreams by name: an upstream has one `route` of its own and any "
            "number of these. All routes are one table; the order does not matter."
        ),
    ] = ()
    load_balancing: Annotated[
        LoadBalancing, described("For upstreams without `load_balancing` of their own.")
    ] = LoadBalancing()
    upstream_tls: Annotated[UpstreamTLS, described("For upstreams without `tls` of their own.")] = (
        UpstreamTLS()
    )
    log: Annotated[Log, described("What Spooky says about itself.")] = Log()
    access_log: Annotated[AccessLog, described("One line for each request.")] = AccessLog()
    performance: Annotated[Performance, described("Limits, timeouts, windows and buffers.")] = (
        Performance()
    )
    observability: Annotated[
        Observability, described("What others can learn of a running Spooky.")
    ] = Observability()
    resilience: Annotated[Resilience, described("Protection of Spooky and of backends.")] = (
        Resilience()
    )
    security: Annotated[
        Security,
        described(
            "What `spooky serve` gives up once it has begun. An embedded proxy gives nothing up: "
            "the process is its program's."
        ),
    ] = Security()
    control: Annotated[
        Control,
        described(
            "How a running `spooky serve` is changed, and what it remembers of it. An embedded "
            "proxy is changed by its program."
        ),
    ] = Control()

    @property
    def active_listeners(self) -> tuple[Listener, ...]:
        """The listeners in force: ``listeners`` if there are any, else ``listen``."""
        if self.listeners:
            return self.listeners
        return (self.listen,) if self.listen is not None else ()

    def all_routes(self) -> Iterator[tuple[str, Route]]:
        """Yield each route with the name of the upstream that it leads to."""
        for name, upstream in self.upstream.items():
            if upstream.route is not None:
                yield name, upstream.route
        for route in self.routes:
            yield route.upstream, route

    def priority_of(self, upstream: str, route: Route) -> Priority:
        """Return the priority of a route to the upstream of this name."""
        return "core" if upstream in self.resilience.brownout.core_routes else route.priority

    def load_balancing_of(self, upstream: str) -> LoadBalancing:
        """Return how the upstream of this name balances."""
        return self.upstream[upstream].load_balancing or self.load_balancing

    def retry_of(self, upstream: str) -> RetrySettings:
        """Return when requests to the upstream of this name are tried again."""
        return self.upstream[upstream].retry or self.resilience.retry

    def tls_of(self, upstream: str) -> UpstreamTLS:
        """Return the TLS settings towards the backends of the upstream of this name."""
        return self.upstream[upstream].tls or self.upstream_tls
