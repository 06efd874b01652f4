"""Compiling an upstream with its backends and routes into a part of generations."""

import ssl
from collections.abc import Callable, Generator, Sequence

from spooky._core.admission import Backend, Upstream
from spooky._core.balance import Balancer, LatencyAware, Loads
from spooky._core.fields import ForwardingPolicy
from spooky._core.gate import Gate
from spooky._core.routes import Rule
from spooky.balancing.factory import make_balancer
from spooky.balancing.key import KeySource
from spooky.config.inventory import route_name, rule_of
from spooky.config.overload import PRIORITIES
from spooky.config.schema import HASHING_TYPES, Configuration
from spooky.config.schema import Backend as BackendConfiguration
from spooky.generation.environment import BalancerIdentity, Environment
from spooky.generation.errors import CompileError
from spooky.generation.identities import PoolIdentity
from spooky.generation.parts import Part, PartIdentity
from spooky.generation.retry_policies import compile_retry
from spooky.generation.stages import REQUESTS
from spooky.overload.places import shared_places
from spooky.upstream.dial import DialSettings
from spooky.upstream.embedded import EmbeddedPool
from spooky.upstream.excluded import ExcludedBackends
from spooky.upstream.health import BackendHealth, UpstreamHealth
from spooky.upstream.latencies import UpstreamLatencies
from spooky.upstream.origin import EMBEDDED_SCHEME, Origin
from spooky.upstream.outlier import make_tally
from spooky.upstream.pool import Pool, RequestPool


def acquire_gate(
    environment: Environment, key: tuple[str, ...], releases: list[Callable[[float], object]]
) -> Gate:
    """Return the gate of an identity; adds to ``releases`` what gives it up."""
    gates = environment.gates

    def make() -> Gate:
        places = shared_places(environment.counters, REQUESTS, *key)
        return Gate(places, environment.watch.add)

    gate = gates.acquire(key, make)
    releases.append(lambda _: gates.release(key))
    return gate


def compile_part(
    identity: PartIdentity, configuration: Configuration, environment: Environment
) -> Generator[None, None, Part]:
    """Compile a part in steps that are short each; one closed before its end leaves nothing.

    Arguments:
        identity: What it is made of.
        configuration: The whole; nothing of the part refers to it.
        environment: Where it will be in force.

    Raises:
        CompileError: It cannot be put in force; nothing was acquired.
    """
    compiler = _PartCompiler(identity, configuration, environment)
    try:
        return (yield from compiler.compile())
    except BaseException:
        compiler.part.release(0.0)
        raise


class _PartCompiler:
    """Acquires from the registries, and notes in the part what to change and what to give up."""

    def __init__(
        self, identity: PartIdentity, configuration: Configuration, environment: Environment
    ) -> None:
        self.part = Part(identity)
        self._name = identity.name
        self._upstream = identity.upstream
        self._routes = identity.routes
        self._common = identity.common
        self._configuration = configuration
        self._environment = environment
        self._balancing = configuration.load_balancing_of(identity.name)
        self._tls = self._common.upstream_tls(self._upstream)
        # Whether no generation knows the loads of the balancer.
        self._loads_are_new = False

    def compile(self) -> Generator[None, None, Part]:
        """Return the part."""
        releases, environment = self.part.releases, self._environment

        def gate(*key: str) -> Gate:
            return acquire_gate(environment, key, releases)

        balancer = self._balancer()
        backends = []
        for backend in self._upstream.listed_backends:
            yield
            backends.append(self._backend(backend, gate))
        self._count_together(balancer, backends)
        self._follow_health(balancer)
        target = Upstream(
            name=self._name,
            balancer=balancer,
            key_source=self._key_source(),
            backends=tuple(backends),
            forwarding=ForwardingPolicy(
                self._upstream.forwarded_headers.mode,
                self._upstream.host_policy.mode,
                (self._upstream.host_policy.host or "").encode(),
            ),
            retry=compile_retry(self._configuration, self._name, environment.counters),
            stages=(),
            excluded=ExcludedBackends(
                environment.counters.segment,
                balancer,
                [(backend.id, backend.health) for backend in backends],
            ),
        )
        priorities = [
            PRIORITIES.index(self._configuration.priority_of(self._name, route))
            for route in self._routes
        ]
        maker = self._common.stages.of_upstream(self._name, set(priorities), gate)
        for route, priority in zip(self._routes, priorities, strict=True):
            yield
            rule = rule_of(self._name, route)
            stages = maker.of_route(route_name(rule), priority, route.max_inflight)
            leads_to = target.behind(stages)
            self.part.rules.append(
                Rule(self._name, rule.host, rule.path_prefix, rule.method, leads_to)
            )
        return self.part

    def _key_source(self) -> KeySource | None:
        if self._balancing.type not in HASHING_TYPES:
            return None
        default = "cid" if self._balancing.type == "sticky-cid" else "authority"
        named = (self._balancing.key,) if self._balancing.key is not None else ()
        return KeySource.parse(*named, default)

    def _count_together(self, balancer: Balancer, backends: Sequence[Backend]) -> None:
        """Have a balancer compare what all workers have in flight, if it is known of all backends.

        Where the segment has no room for some, they count this worker's, and would seem free.
        """
        shared = [limit for each in backends if (limit := each.stage.gate.shared) is not None]
        if len(shared) == len(backends):
            for position, limit in enumerate(shared):
                balancer.count_by(position, limit)

    def _follow_health(self, balancer: Balancer) -> None:
        upstream, watch = self._upstream, self._environment.health
        segment = self._environment.counters.segment
        knows_all = upstream.outlier_detection.enabled or upstream.slow_start is not None
        backends: dict[int, BackendHealth | None] = {}
        new = []
        for position, backend in enumerate(upstream.listed_backends):
            if backend.state != "enabled":
                continue
            is_known = knows_all or backend.health_check is not None
            backends[position] = (
                BackendHealth(segment, self._name, backend.id) if is_known else None
            )
            if self._is_new(backend):
                new.append(position)
        health = UpstreamHealth(
            balancer, backends, upstream.panic_threshold_percent, upstream.slow_start, new
        )
        if self._loads_are_new:
            health.prepare(self._environment.runtime.now())
        self.part.activations.append(lambda: watch.add(health))
        self.part.releases.append(lambda _: watch.remove(health))
        if isinstance(balancer, LatencyAware):
            self._follow_latencies(balancer)

    def _follow_latencies(self, balancer: LatencyAware) -> None:
        watch, listed = self._environment.latencies, enumerate(self._upstream.listed_backends)
        latencies = UpstreamLatencies(
            self._environment.counters.segment,
            self._name,
            {position: backend.id for position, backend in listed},
            balancer,
        )
        self.part.activations.append(lambda: watch.add(latencies))
        self.part.releases.append(lambda _: watch.remove(latencies))

    def _is_new(self, backend: BackendConfiguration) -> bool:
        """Return whether a backend gets its first requests from this generation on."""
        registry = self._environment.enabled
        key = self._name, backend.id, self._pool_identity(Origin.parse(backend.address))
        before = len(registry)
        registry.acquire(key, object)
        self.part.releases.append(lambda _: registry.release(key))
        return len(registry) > before and self._environment.has_begun

    def _balancer(self) -> Balancer:
        name, backends, balancing = self._name, self._upstream.listed_backends, self._balancing
        balancers, registry = self._environment.balancers, self._environment.loads
        seed = self._environment.seed
        key = name, balancing.type
        before = len(registry)
        loads = registry.acquire(key, lambda: Loads(seed))
        self._loads_are_new = len(registry) > before

        def release(_: float) -> None:
            unused = registry.release(key)
            if unused is not None:
                unused.forget_turns()

        self.part.releases.append(release)
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
                seed,
                balancing.balance_factor or 0.0,
                loads,
            )
            for position, backend in enumerate(backends):
                if backend.state == "drained":
                    made.drain(position)
            return made

        balancer = balancers.acquire(identity, make)
        self.part.releases.append(lambda _: balancers.release(identity))
        return balancer

    def _backend(self, backend: BackendConfiguration, gate: Callable[..., Gate]) -> Backend:
        origin = Origin.parse(backend.address)
        if origin.scheme == EMBEDDED_SCHEME:
            scheme, pool = b"https", self._embedded_pool(origin)
        else:
            scheme, pool = origin.scheme.encode(), self._remote_pool(origin)
        segment = self._environment.counters.segment
        return Backend(
            backend.id,
            scheme,
            origin.authority,
            pool,
            self._common.stages.of_backend(self._name, backend.id, gate),
            make_tally(segment, self._name, backend.id, self._upstream.outlier_detection),
            BackendHealth(segment, self._name, backend.id),
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

    def _remote_pool(self, origin: Origin) -> RequestPool:
        protocol, settings = self._upstream.protocol, self._common.pool_settings

        def make() -> RequestPool:
            try:
                how = DialSettings.of(origin, protocol, self._tls)
            except (ssl.SSLError, ValueError) as error:
                raise CompileError(f"upstream.{self._name}.tls: {error}") from error
            return Pool(self._environment.runtime, how, settings, self._environment.resolve)

        pool = self._pool(self._pool_identity(origin), make)
        if isinstance(pool, Pool) and pool.settings != settings:
            self.part.activations.append(lambda: pool.use(settings))
        return pool

    def _pool_identity(self, origin: Origin) -> PoolIdentity:
        return PoolIdentity.of(origin, self._upstream.protocol, self._tls)

    def _pool(self, identity: PoolIdentity, make: Callable[[], RequestPool]) -> RequestPool:
        pools = self._environment.pools
        pool = pools.acquire(identity, make)

        def release(seconds: float) -> None:
            unused = pools.release(identity)
            if unused is not None:
                unused.close(seconds)

        self.part.releases.append(release)
        return pool
