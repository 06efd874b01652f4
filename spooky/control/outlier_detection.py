"""Ejecting outliers, once for the whole machine, whatever the number of workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spooky._core.shared import Segment
from spooky._core.timers import Timer
from spooky.config.schema import Configuration
from spooky.generation.identities import PoolIdentity, pool_identities
from spooky.generation.materials import Materials
from spooky.generation.stages import breaker_of
from spooky.observe.metrics import Fact, Kind
from spooky.runtime import Runtime
from spooky.upstream.outlier import ObservedBackend, OutlierDetector, alarm_words

LOOK_SECONDS: Final = 0.05
"""How often it is looked for errors in a row; a word is read each time, mostly that alone."""


LOOKS_PER_BREAKER_LOOK: Final = 4
"""Every which time breakers are looked at, some words for each backend; they open for a second, or
so, at first."""


@dataclass(frozen=True, slots=True)
class BackendIdentity:
    """What makes two backends the same, so that what is known of them goes on through a change.

    Attributes:
        upstream: Name of the upstream.
        backend: Id of the backend.
        pool: How it is reached.
    """

    upstream: str
    backend: str
    pool: PoolIdentity


class OutlierEjection:
    """Outlier detection in all upstreams of a configuration.

    Arguments:
        runtime: Whose loop to use.
        segment: Where workers count, and learn of ejections.
    """

    def __init__(self, runtime: Runtime, segment: Segment) -> None:
        self._runtime = runtime
        self._segment = segment
        self._alarm = alarm_words(segment)
        self._alarms_seen = 0
        self._backends: dict[BackendIdentity, ObservedBackend] = {}
        self._detectors: dict[str, OutlierDetector] = {}
        self._timer: Timer | None = None
        self._looks = 0

    def follow(self, configuration: Configuration, materials: Materials) -> None:
        """Observe the backends of a configuration; what is known of those that stay is kept.

        Arguments:
            materials: The files that it names.
        """
        now = self._runtime.now()
        pools = pool_identities(configuration, materials)
        wanted = {
            name: [
                BackendIdentity(name, backend.id, pools[name, backend.id])
                for backend in upstream.backends
                if backend.state == "enabled"
            ]
            for name, upstream in configuration.upstream.items()
            if upstream.outlier_detection.enabled
        }
        kept = {identity for identities in wanted.values() for identity in identities}
        for identity in self._backends.keys() - kept:
            self._backends.pop(identity).forget(now)
        for identity in kept - self._backends.keys():
            self._backends[identity] = ObservedBackend(
                self._segment, identity.upstream, identity.backend
            )
        for identity in kept:
            self._backends[identity].breaker = breaker_of(
                configuration, self._segment, identity.upstream, identity.backend
            )
        before, self._detectors = self._detectors, {}
        for name, identities in wanted.items():
            settings = configuration.upstream[name].outlier_detection
            compare_at = now + settings.interval_ms / 1000
            if name in before:
                compare_at = min(compare_at, before[name].compare_at)
            backends = [self._backends[identity] for identity in identities]
            self._detectors[name] = OutlierDetector(settings, backends, compare_at)
        if self._timer is None:
            self._schedule()

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of ejections."""
        for identity, backend in self._backends.items():
            labels = (("upstream", identity.upstream), ("backend", identity.backend))
            yield Fact(
                "backend_ejected",
                "Whether a backend is ejected for how its requests end.",
                int(backend.health.ejected_for is not None),
                labels,
            )
            for reason, count in backend.ejections.items():
                yield Fact(
                    "backend_ejections_total",
                    "Ejections of backends, by their reason.",
                    count,
                    (*labels, ("reason", reason.code)),
                    Kind.COUNTER,
                )

    def close(self) -> None:
        """Look no more; what was found stays, for whoever takes over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._timer = self._runtime.schedule(self._runtime.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._schedule()
        alarms = self._alarm.load(0) if self._alarm is not None else 0
        alarmed, self._alarms_seen = alarms != self._alarms_seen, alarms
        now = self._runtime.now()
        self._looks += 1
        for detector in self._detectors.values():
            detector.look(now, alarmed)
            if self._looks % LOOKS_PER_BREAKER_LOOK == 0:
                detector.look_at_breakers(now)
