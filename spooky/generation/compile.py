"""Compiling a configuration into a generation."""

import asyncio
import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from spooky._core.balance import Balancer, Loads
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate
from spooky._core.routes import RouteTable, Rule
from spooky._core.stages import Pressure
from spooky._core.validate import Limits
from spooky.balancing.factory import make_balancer
from spooky.balancing.key import KeySource
from spooky.config.inventory import route_name, rules_of
from spooky.config.overload import TARGET_MS, RouteQueue
from spooky.config.performance import Performance
from spooky.config.schema import HASHING_TYPES, Configuration, Listener, UpstreamTLS
from spooky.config.schema import Backend as BackendConfiguration
from spooky.generation.certificates import (
    ListenerTls,
    listener_tls_identity,
    load_listener_tls,
)
from spooky.generation.generation import (
    Backend,
    BodyLimits,
    Generation,
    RequestPolicy,
    Timeouts,
    Upstream,
)
from spooky.generation.identities import PoolIdentity, upstream_tls
from spooky.generation.materials import Materials
from spooky.generation.registry import Registry
from spooky.generation.retry_policies import compile_retry
from spooky.generation.stages import REQUESTS, StageMaker
from spooky.observe.counters import Counters
from spooky.overload.places import shared_places
from spooky.overload.watch import GateWatch
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.runtime import Runtime
from spooky.upstream.application import Application
from spooky.upstream.dial import DialSettings, Resolve, UpstreamTls
from spooky.upstream.embedded import EmbeddedPool
from spooky.upstream.health import BackendHealth, HealthWatch, UpstreamHealth
from spooky.upstream.origin import EMBEDDED_SCHEME, Origin
from spooky.upstream.outlier import make_tally
from spooky.upstream.pool import Pool, PoolSettings, RequestPool

HOLD_SECONDS: Final = 0.002
"""How long compiling holds the loop at a time: requests under way wait no longer for it."""


class CompileError(Exception):
    """The configuration is valid but cannot be put in force; says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class BalancerIdentity:
    """What makes a balancer outlive a generation; the loads that it knows outlive it too."""

    upstream: str
    type: str
    backends: tuple[tuple[str, int, str], ...]
    balance_factor: float | None


class Environment:
    """What generations are compiled into: a worker's runtime and its registries.

    Arguments:
        runtime: The worker's.
        counters: The worker's, in the segment where it shares limits.
        resolve: Gives the addresses of backends.
        applications: Embedded applications by name.
        seed: Of the balancers' random numbers.
    """

    def __init__(
        self,
        runtime: Runtime,
        counters: Counters,
        resolve: Resolve,
        applications: Mapping[str, Application],
        seed: int = 0,
    ) -> None:
        self.runtime = runtime
        self.counters = counters
        self.watch = GateWatch(runtime)
        self.health = HealthWatch(runtime, counters.segment)
        self.resolve = resolve
        self.applications = applications
        self.seed = seed
        self.pools: Registry[PoolIdentity, RequestPool] = Registry()
        self.balancers: Registry[BalancerIdentity, Balancer] = Registry()
        self.loads: Registry[tuple[str, str], Loads] = Registry()
        self.pressure = Pressure()
        self.gates: Registry[tuple[str, ...], Gate] = Registry()
        self.listener_tls: Registry[bytes, ListenerTls] = Registry()
        # Backends that get requests, by upstream, id and the way to them.
        self.enabled: Registry[tuple[str, str, PoolIdentity], object] = Registry()
        self.has_begun = False

    def use_addresses(self, host: str, port: int, addresses: Sequence[str]) -> None:
        """Have connections to other addresses of a host take no new requests."""
        for pool in self.pools.values():
            if isinstance(pool, Pool):
                origin = pool.dial_settings.origin
                if (origin.host, origin.port) == (host, port):
                    pool.leave_other_addresses(addresses)


def compile_generation(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generation:
    """Compile a configuration, without any effect until :attr:`Generation.activate` is called.

    Arguments:
        materials: The files it names.
        environment: Where it will be in force.
        number: The generation's number.

    Raises:
        CompileError: It cannot be put in force; nothing was acquired.
        MaterialError: Nor if a certificate or key cannot be used.
    """
    steps = compile_steps(configuration, materials, environment, number)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            generation: Generation = end.value
            return generation


async def compile_in_turns(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generation:
    """Compile like :func:`compile_generation`, but let the loop turn every :data:`HOLD_SECONDS`."""
    steps = compile_steps(configuration, materials, environment, number)
    now = environment.runtime.now
    began = now()
    try:
        while True:
            next(steps)
            if now() - began > HOLD_SECONDS:
                await asyncio.sleep(0)
                began = now()
    except StopIteration as end:
        generation: Generation = end.value
        return generation
    finally:
        steps.close()


def compile_steps(
    configuration: Configuration, materials: Materials, environment: Environment, number: int
) -> Generator[None, None, Generation]:
    """Compile a configuration in steps that are short each, so that others run in between.

    Like :func:`compile_generation`, whose result is what this generator returns. One that is closed
    before its end gives up what it acquired.
    """
    compiler = _Compiler(configuration, materials, environment)
    try:
        return (yield from compiler.compile(number))
    except BaseException:
        compiler.release(0.0)
        raise


class _Compiler:
    """Acquires from the registries, and remembers what to change and what to give up."""

    def __init__(
        self, configuration: Configuration, materials: Materials, environment: Environment
    ) -> None:
        self._configuration = configuration
        self._performance = configuration.performance
        self._materials = materials
        self._environment = environment
        self._pool_settings = _pool_settings(configuration.performance)
        # Made once of each, as every backend asks and bundles of authorities are large.
        self._tls: dict[UpstreamTLS, UpstreamTls] = {}
        self._activations: list[Callable[[], None]] = []
        self._releases: list[Callable[[float], object]] = []

    def activate(self) -> None:
        """Put in force what changed of things that were kept."""
        self._environment.has_begun = True
        while self._activations:
            self._activations.pop()()

    def release(self, seconds: float) -> None:
        """Give up everything acquired.

        Arguments:
            seconds: How long the streams of what nobody else refers to have.
        """
        while self._releases:
            self._releases.pop()(seconds)

    def compile(self, number: int) -> Generator[None, None, Generation]:
        """Return the generation."""
        configuration = self._configuration
        environment = self._environment
        # It refers to this object, which must not refer to it: what is superseded is freed at once.
        maker = StageMaker(configuration, environment.counters, self._gate, environment.pressure)
        listener_tls = []
        for listener in configuration.active_listeners:
            yield
            listener_tls.append(self._listener_tls(listener))
        upstreams: dict[str, Upstream] = {}
        for name in configuration.upstream:
            yield
            upstreams[name] = yield from self._upstream(name, maker)
        rules = []
        for (name, route), rule in zip(
            configuration.all_routes(), rules_of(configuration), strict=True
        ):
            yield
            stages = maker.of_route(name, route, route_name(rule))
            target = replace(upstreams[name], stages=stages)
            rules.append(Rule(rule.name, rule.host, rule.path_prefix, rule.method, target))
        yield
        return Generation(
            number=number,
            configuration=configuration,
            routes=RouteTable(rules),
            policy=self._policy(),
            listener_tls=tuple(listener_tls),
            activate=self.activate,
            release=self.release,
        )

    def _listener_tls(self, listener: Listener) -> ListenerTls:
        registry = self._environment.listener_tls
        identity = listener_tls_identity(listener, self._materials)
        tls = registry.acquire(identity, lambda: load_listener_tls(listener, self._materials))
        self._releases.append(lambda _: registry.release(identity))
        return tls

    def _policy(self) -> RequestPolicy:
        protocol = self._configuration.resilience.protocol
        return RequestPolicy(
            limits=Limits(
                protocol.max_headers_count,
                protocol.max_headers_bytes,
                protocol.enforce_authority_host_match,
                [method.encode() for method in protocol.allowed_methods],
                [prefix.encode() for prefix in protocol.denied_path_prefixes],
            ),
            timeouts=_timeouts(self._performance, self._configuration.resilience.route_queue),
            bodies=_body_limits(self._performance),
            early_methods=frozenset(method.encode() for method in protocol.early_data_safe_methods),
            retry_after=self._configuration.resilience.route_queue.shed_retry_after_seconds,
        )

    def _upstream(self, name: str, maker: StageMaker) -> Generator[None, None, Upstream]:
        upstream = self._configuration.upstream[name]
        balancing = self._configuration.load_balancing_of(name)
        balancer = self._balancer(name)
        key_source = None
        if balancing.type in HASHING_TYPES:
            default = "cid" if balancing.type == "sticky-cid" else "authority"
            named = (balancing.key,) if balancing.key is not None else ()
            key_source = KeySource.parse(*named, default)
        backends = []
        for backend in upstream.listed_backends:
            yield
            backends.append(self._backend(name, backend, maker))
        self._follow_health(name, balancer)
        return Upstream(
            name=name,
            balancer=balancer,
            key_source=key_source,
            backends=tuple(backends),
            forwarding=ForwardingPolicy(
                upstream.forwarded_headers.mode,
                upstream.host_policy.mode,
                (upstream.host_policy.host or "").encode(),
            ),
            retry=compile_retry(self._configuration, name, self._environment.counters),
            stages=(),
        )

    def _follow_health(self, name: str, balancer: Balancer) -> None:
        upstream, watch = self._configuration.upstream[name], self._environment.health
        segment = self._environment.counters.segment
        knows_all = upstream.outlier_detection.enabled or upstream.slow_start is not None
        backends: dict[int, BackendHealth | None] = {}
        new = []
        for position, backend in enumerate(upstream.listed_backends):
            if backend.state != "enabled":
                continue
            is_known = knows_all or backend.health_check is not None
            backends[position] = BackendHealth(segment, name, backend.id) if is_known else None
            if self._is_new(name, backend):
                new.append(position)
        health = UpstreamHealth(
            balancer, backends, upstream.panic_threshold_percent, upstream.slow_start, new
        )
        self._activations.append(lambda: watch.add(health))
        self._releases.append(lambda _: watch.remove(health))

    def _is_new(self, upstream: str, backend: BackendConfiguration) -> bool:
        """Return whether a backend gets its first requests from this generation on."""
        registry = self._environment.enabled
        identity = self._pool_identity(upstream, Origin.parse(backend.address))
        key = upstream, backend.id, identity
        before = len(registry)
        registry.acquire(key, object)
        self._releases.append(lambda _: registry.release(key))
        return len(registry) > before and self._environment.has_begun

    def _balancer(self, name: str) -> Balancer:
        backends = self._configuration.upstream[name].listed_backends
        balancing = self._configuration.load_balancing_of(name)
        balancers, registry = self._environment.balancers, self._environment.loads
        key = name, balancing.type
        loads = registry.acquire(key, lambda: Loads(self._environment.seed))

        def release(_: float) -> None:
            unused = registry.release(key)
            if unused is not None:
                unused.forget_turns()

        self._releases.append(release)
        identity = BalancerIdentity(
            name,
            balancing.type,
            tuple((backend.id, backend.weight, backend.state) for backend in backends),
            balancing.balance_factor,
        )

        def make() -> Balancer:
            made = make_balancer(
                balancing.type,
                [backend.id.encode() for backend in backends],
                [backend.weight for backend in backends],
                self._environment.seed,
                balancing.balance_factor or 0.0,
                loads,
            )
            for position, backend in enumerate(backends):
                if backend.state == "drained":
                    made.drain(position)
            return made

        balancer = balancers.acquire(identity, make)
        self._releases.append(lambda _: balancers.release(identity))
        return balancer

    def _backend(self, upstream: str, backend: BackendConfiguration, maker: StageMaker) -> Backend:
        origin = Origin.parse(backend.address)
        if origin.scheme == EMBEDDED_SCHEME:
            scheme, pool = b"https", self._embedded_pool(origin)
        else:
            scheme, pool = origin.scheme.encode(), self._remote_pool(upstream, origin)
        return Backend(
            backend.id,
            scheme,
            origin.authority,
            pool,
            maker.of_backend(upstream, backend.id),
            make_tally(
                self._environment.counters.segment,
                upstream,
                backend.id,
                self._configuration.upstream[upstream].outlier_detection,
            ),
            BackendHealth(self._environment.counters.segment, upstream, backend.id),
        )

    def _embedded_pool(self, origin: Origin) -> RequestPool:
        application = self._environment.applications.get(origin.host)
        if application is None:
            known = ", ".join(sorted(self._environment.applications)) or "none"
            raise CompileError(
                f"app:{origin.host} names no embedded application; there are: {known}"
            )
        identity = PoolIdentity(origin, "auto", None)
        return self._pool(identity, lambda: EmbeddedPool(self._environment.runtime, application))

    def _remote_pool(self, upstream: str, origin: Origin) -> RequestPool:
        protocol = self._configuration.upstream[upstream].protocol
        identity = self._pool_identity(upstream, origin)

        def make() -> RequestPool:
            tls = self._upstream_tls(upstream)
            try:
                context = tls.context(protocol) if origin.scheme == "https" else None
            except (ssl.SSLError, ValueError) as error:
                raise CompileError(f"upstream.{upstream}.tls: {error}") from error
            return Pool(
                self._environment.runtime,
                DialSettings(origin, protocol, context),
                self._pool_settings,
                self._environment.resolve,
            )

        pool = self._pool(identity, make)
        if isinstance(pool, Pool) and pool.settings != self._pool_settings:
            self._activations.append(lambda: pool.use(self._pool_settings))
        return pool

    def _pool_identity(self, upstream: str, origin: Origin) -> PoolIdentity:
        tls = self._upstream_tls(upstream)
        return PoolIdentity.of(origin, self._configuration.upstream[upstream].protocol, tls)

    def _upstream_tls(self, upstream: str) -> UpstreamTls:
        settings = self._configuration.tls_of(upstream)
        tls = self._tls.get(settings)
        if tls is None:
            tls = self._tls[settings] = upstream_tls(settings, self._materials)
        return tls

    def _pool(self, identity: PoolIdentity, make: Callable[[], RequestPool]) -> RequestPool:
        pools = self._environment.pools
        pool = pools.acquire(identity, make)

        def release(seconds: float) -> None:
            unused = pools.release(identity)
            if unused is not None:
                unused.close(seconds)

        self._releases.append(release)
        return pool

    def _gate(self, *key: str) -> Gate:
        environment = self._environment

        def make() -> Gate:
            places = shared_places(environment.counters, REQUESTS, *key)
            return Gate(places, environment.watch.add)

        gate = environment.gates.acquire(key, make)
        self._releases.append(lambda _: environment.gates.release(key))
        return gate


def _pool_settings(performance: Performance) -> PoolSettings:
    return PoolSettings(
        max_idle=performance.h2_pool_max_idle_per_backend,
        idle_timeout=performance.h2_pool_idle_timeout_ms / 1000,
        connect_timeout=performance.backend_connect_timeout_ms / 1000,
        http1=Http1Limits(),
        http2=Http2Limits(),
    )


def _timeouts(performance: Performance, queue: RouteQueue) -> Timeouts:
    wait = performance.inflight_acquire_wait_ms
    total = performance.backend_total_request_timeout_ms
    return Timeouts(
        response_head=performance.backend_timeout_ms / 1000,
        first_byte=performance.backend_body_total_timeout_ms / 1000,
        response_idle=performance.backend_body_idle_timeout_ms / 1000,
        request_idle=performance.client_body_idle_timeout_ms / 1000,
        total=total / 1000 if total is not None else None,
        admission=wait / 1000,
        admission_target=min(queue.target_ms or TARGET_MS, wait) / 1000,
    )


def _body_limits(performance: Performance) -> BodyLimits:
    return BodyLimits(
        request=performance.max_request_body_bytes,
        response=performance.max_response_body_bytes,
        prebuffer=performance.unknown_length_response_prebuffer_bytes,
        held_requests=performance.request_buffer_global_cap_bytes,
    )
