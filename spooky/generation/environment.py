"""What generations are compiled into: a worker's registries of what outlives each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spooky._core.balance import Balancer, Loads
from spooky._core.gate import Gate
from spooky._core.stages import Pressure
from spooky.generation.certificates import ListenerTls
from spooky.generation.identities import PoolIdentity
from spooky.generation.parts import Common, Context, Part, PartIdentity
from spooky.generation.registry import Registry
from spooky.observe.counters import Counters
from spooky.overload.watch import GateWatch
from spooky.runtime import Runtime
from spooky.upstream.application import Application
from spooky.upstream.dial import Resolve
from spooky.upstream.health import HealthWatch
from spooky.upstream.latencies import LatencyWatch
from spooky.upstream.pool import Pool, RequestPool


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
        self.latencies = LatencyWatch(runtime)
        self.resolve = resolve
        self.applications = applications
        self.seed = seed
        self.pools: Registry[PoolIdentity, RequestPool] = Registry()
        self.balancers: Registry[BalancerIdentity, Balancer] = Registry()
        self.loads: Registry[tuple[str, str], Loads] = Registry()
        self.pressure = Pressure()
        self.gates: Registry[tuple[str, ...], Gate] = Registry()
        self.listener_tls: Registry[bytes, ListenerTls] = Registry()
        self.commons: Registry[Context, Common] = Registry()
        self.parts: dict[PartIdentity, Part] = {}
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
