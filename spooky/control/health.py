"""What one process of the machine does to know backends: checks, ejection, names, breakers."""

from collections.abc import Iterator

from spooky._core.shared import Segment
from spooky._core.stages import BROWNOUT_STEP_SECONDS
from spooky._core.timers import Timer
from spooky.config.schema import Configuration
from spooky.config.slow_start import SlowStart
from spooky.control.admission_state import AdmissionState
from spooky.control.health_checks import HealthChecks
from spooky.control.name_refresh import NameRefresh, OnChanged
from spooky.control.outlier_detection import OutlierEjection
from spooky.generation.materials import Materials
from spooky.observe.metrics import Fact
from spooky.runtime import Runtime
from spooky.upstream.dial import Resolve
from spooky.upstream.health import FULL_SHARE, BackendHealth, share_of


class Health:
    """Active checks, outlier detection and addresses of all backends.

    Arguments:
        runtime: Whose loop to use.
        segment: Where workers count, and learn of the results.
        resolve: Gives the addresses of backends.
        on_addresses: Told of the addresses of a name when they change.
    """

    def __init__(
        self, runtime: Runtime, segment: Segment, resolve: Resolve, on_addresses: OnChanged
    ) -> None:
        self._segment = segment
        self._enabled: dict[str, list[tuple[str, BackendHealth]]] = {}
        self._slow_starts: dict[str, SlowStart] = {}
        self._admission = AdmissionState(segment, runtime.now)
        self._checks = HealthChecks(runtime, segment, resolve)
        self._ejection = OutlierEjection(runtime, segment)
        self._names = NameRefresh(runtime, resolve, on_addresses)
        self._runtime = runtime
        self._looking: Timer | None = None

    @property
    def any_can_serve(self) -> bool:
        """Whether any backend can serve, and may be tried now; true where none is listed at all."""
        if not self._checks.any_can_serve:
            return False
        return not self._enabled or any(map(self._count, self._enabled))

    def names(self) -> dict[str, str]:
        """Return each name of backends that is followed, with why it does not resolve, if so."""
        return self._names.failures

    def ready(self) -> dict[str, float]:
        """Return which share of each upstream's enabled backends can serve; 0 where none is."""
        return {
            name: self._count(name) / max(1, len(backends))
            for name, backends in self._enabled.items()
        }

    def count(self) -> int:
        """Return how many backends of all upstreams can serve, and may be tried now."""
        return sum(self._count(name) for name in self._enabled)

    def _count(self, upstream: str) -> int:
        return sum(
            health.can_serve and self._admission.lets_through(upstream, backend)
            for backend, health in self._enabled[upstream]
        )

    def follow(self, configuration: Configuration, materials: Materials) -> None:
        """Go by a configuration; what is known of backends that stay is kept.

        Arguments:
            materials: The files that it names.
        """
        self._checks.follow(configuration, materials)
        self._ejection.follow(configuration, materials)
        self._names.follow(configuration)
        self._admission.follow(configuration)
        if self._looking is None:
            self._look()
        self._enabled = {
            name: [
                (backend.id, BackendHealth(self._segment, name, backend.id))
                for backend in upstream.backends
                if backend.state == "enabled"
            ]
            for name, upstream in configuration.upstream.items()
            if upstream.backends
        }
        self._slow_starts = {
            name: upstream.slow_start
            for name, upstream in configuration.upstream.items()
            if upstream.slow_start is not None
        }

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        yield from self._checks.facts()
        yield from self._ejection.facts()
        yield from self._names.facts()
        yield from self._admission.facts()
        for name, slow_start in self._slow_starts.items():
            for backend, health in self._enabled.get(name, ()):
                yield Fact(
                    "backend_slow_start_ratio",
                    "Share of its weight that a backend has by its slow start, from 0 to 1.",
                    share_of(slow_start, health, self._runtime.now()) / FULL_SHARE,
                    (("upstream", name), ("backend", backend)),
                )

    def close(self) -> None:
        """Stop; what was found stays, for whoever takes over."""
        self._checks.close()
        self._ejection.close()
        self._names.close()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look(self) -> None:
        """Look as often as workers do: a brownout may come between two scrapes, and last."""
        self._looking = None
        if self._admission.look():
            due = self._runtime.now() + BROWNOUT_STEP_SECONDS
            self._looking = self._runtime.schedule(due, self._look)
