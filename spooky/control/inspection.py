"""What runs, object by object: for the control API and `spooky status`."""

import datetime
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from spooky._core.shared import Segment
from spooky.config.inventory import listener_name
from spooky.config.schema import Backend, Upstream
from spooky.control.answers import (
    BackendView,
    CertificateView,
    ListenerView,
    RouteView,
    UpstreamView,
    WorkerView,
)
from spooky.control.candidate import Candidate
from spooky.overload.places import shared_total
from spooky.protocol.quic.certificates import CertificateChain


class Inspection:
    """Looks at what runs, whenever it is asked.

    Arguments:
        segment: What the workers share.
        running: Gives what is in force.
        workers: Gives the process number of each slot's worker.
        active: Gives the slots that new connections are spread over.
        addresses: Gives where the listeners are bound.
        healthy: Gives how many backends can serve.

    Attributes:
        segment: What the workers share.
    """

    def __init__(
        self,
        segment: Segment,
        running: Callable[[], Candidate],
        workers: Callable[[], Mapping[int, int]],
        active: Callable[[], Container[int]],
        addresses: Callable[[], Iterable[tuple[str, int]]],
        healthy: Callable[[], int],
    ) -> None:
        self.segment = segment
        self._running = running
        self._workers = workers
        self._active = active
        self._addresses = addresses
        self._healthy = healthy

    def workers(self) -> tuple[WorkerView, ...]:
        """Return the workers, in the order of their slots."""
        return tuple(self._worker(slot, pid) for slot, pid in sorted(self._workers().items()))

    def listeners(self) -> tuple[ListenerView, ...]:
        """Return the listeners, in the order of the configuration."""
        return tuple(ListenerView(*address) for address in self._addresses())

    def certificates(self) -> tuple[CertificateView, ...]:
        """Return the certificates of all listeners."""
        running = self._running()
        listeners = running.configuration.active_listeners
        return tuple(
            _certificate(listener_name(listener), chain)
            for listener, tls in zip(listeners, running.tls, strict=True)
            for chain in tls.selector.chains
        )

    def routes(self) -> tuple[RouteView, ...]:
        """Return the routes."""
        return tuple(
            RouteView(upstream, route.host, route.path_prefix, route.method)
            for upstream, route in self._running().configuration.all_routes()
        )

    def upstreams(self) -> tuple[UpstreamView, ...]:
        """Return the upstreams with their backends."""
        running = self._running().configuration
        return tuple(
            UpstreamView(
                name,
                upstream.protocol,
                running.load_balancing_of(name).type,
                shared_total(self.segment, "requests", "upstream", name),
                tuple(self._backends(name, upstream)),
            )
            for name, upstream in running.upstream.items()
        )

    def backend_counts(self) -> tuple[int, int]:
        """Return how many backends can serve, and how many are listed."""
        listed = self._running().configuration.upstream.values()
        return self._healthy(), sum(len(upstream.backends) for upstream in listed)

    def backends(self) -> tuple[BackendView, ...]:
        """Return the backends of all upstreams."""
        return tuple(
            each
            for name, upstream in self._running().configuration.upstream.items()
            for each in self._backends(name, upstream)
        )

    def _backends(self, name: str, upstream: Upstream) -> Iterator[BackendView]:
        overridden = {
            each.backend: tuple(
                key for key in ("state", "weight") if getattr(each, key) is not None
            )
            for each in self._running().overrides
            if each.upstream == name
        }
        for backend in upstream.backends:
            yield self._backend(name, backend, overridden.get(backend.id, ()))

    def _backend(self, name: str, backend: Backend, overridden: tuple[str, ...]) -> BackendView:
        return BackendView(
            name,
            backend.id,
            backend.address,
            backend.state,
            backend.weight,
            shared_total(self.segment, "requests", "backend", name, backend.id),
            overridden,
        )

    def _worker(self, slot: int, pid: int) -> WorkerView:
        beat = self.segment.last_beat(slot)
        age = max(0.0, time.monotonic() - beat / 1000) if beat else None
        return WorkerView(slot, pid, slot not in self._active(), age)


def _certificate(listener: str, chain: CertificateChain) -> CertificateView:
    certificate = chain.certificate
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return CertificateView(
        listener,
        tuple(sorted(chain.names)),
        chain.fingerprint,
        certificate.not_valid_before_utc.isoformat(),
        certificate.not_valid_after_utc.isoformat(),
        int(left.total_seconds()),
    )
