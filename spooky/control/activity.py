"""What goes on: how many requests each upstream and backend gets, and what becomes of them."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from spooky._core.shared import BUCKET_VALUES, LATENCY_BOUNDS, Segment
from spooky.config.schema import Configuration, Upstream
from spooky.control.admission_state import AdmissionState
from spooky.control.answers import Activity, BackendActivity, UpstreamActivity
from spooky.observe.counters import CounterReader
from spooky.observe.outcomes import is_shed, reason_of
from spooky.overload.places import shared_total
from spooky.upstream.health import BackendHealth


class ActivityReader:
    """Reads what the workers counted; it asks none.

    Arguments:
        segment: Where they count.
        running: Gives the configuration in force and its number.
    """

    def __init__(self, segment: Segment, running: Callable[[], tuple[int, Configuration]]) -> None:
        self._segment = segment
        self._running = running
        self._counters = CounterReader(segment)
        self._admission = AdmissionState(segment, time.monotonic)
        self._followed: Configuration | None = None

    def read(self) -> Activity:
        """Return the counts since the start, and what is in flight now."""
        number, configuration = self._running()
        if configuration is not self._followed:
            self._admission.follow(configuration)
            self._followed = configuration
        by_upstream: defaultdict[str, Counter[str]] = defaultdict(Counter)
        by_backend: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        sheds: Counter[str] = Counter()
        latencies: dict[str, list[int]] = {}
        connections: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        actions: Counter[str] = Counter()
        for (metric, pairs), values in self._counters.read().items():
            labels = dict(pairs)
            match metric:
                case "requests_total":
                    upstream, status = labels["upstream"], labels["status_class"]
                    by_upstream[upstream][status] += values[0]
                    by_backend[upstream, labels["backend"]][status] += values[0]
                    reason = reason_of(labels)
                    if reason is not None and is_shed(reason):
                        sheds[reason.code] += values[0]
                case "request_duration_seconds":
                    latencies[labels["upstream"]] = values[:BUCKET_VALUES]
                case "connections_active":
                    connections[labels["transport"]] += values[0]
                case "connections_refused_total":
                    refused[labels["reason"]] += values[0]
                case "overload_actions_active":
                    actions[labels["action"]] += values[0]
        performance = configuration.performance
        return Activity(
            time=time.monotonic(),
            generation=number,
            bounds=LATENCY_BOUNDS,
            connections=dict(connections),
            in_flight=shared_total(self._segment, "requests", "global"),
            limit=performance.global_inflight_limit,
            upstreams=tuple(
                UpstreamActivity(
                    name=name,
                    in_flight=shared_total(self._segment, "requests", "upstream", name),
                    limit=performance.per_upstream_inflight_limit,
                    adaptive=self._admission.adaptive(name),
                    requests=dict(by_upstream[name]),
                    latencies=tuple(latencies.get(name, (0,) * BUCKET_VALUES)),
                )
                for name in (*configuration.upstream, "")
            ),
            backends=tuple(
                backend
                for name, upstream in configuration.upstream.items()
                for backend in self._backends(
                    name, upstream, performance.per_backend_inflight_limit, by_backend
                )
            ),
            sheds=dict(sheds),
            refused={code: count for code, count in refused.items() if count},
            actions={name: count for name, count in actions.items() if count},
        )

    def _backends(
        self,
        name: str,
        upstream: Upstream,
        limit: int,
        counts: defaultdict[tuple[str, str], Counter[str]],
    ) -> Iterator[BackendActivity]:
        for backend in upstream.backends:
            health = BackendHealth(self._segment, name, backend.id)
            yield BackendActivity(
                upstream=name,
                id=backend.id,
                state=backend.state,
                health=_health(health),
                ejected_seconds=_ejected_seconds(health),
                breaker=self._admission.breaker(name, backend.id),
                weight=backend.weight,
                in_flight=shared_total(self._segment, "requests", "backend", name, backend.id),
                limit=limit,
                requests=dict(counts[name, backend.id]),
            )


def _health(health: BackendHealth) -> str:
    if health.is_failing:
        return "failing"
    ejected_for = health.ejected_for
    return "ok" if ejected_for is None else f"ejected: {ejected_for.code}"


def _ejected_seconds(health: BackendHealth) -> float:
    """Return for how long a backend still is ejected; 0 if it is not."""
    if health.ejected_for is None:
        return 0.0
    return round(max(0.0, health.ejected_until - time.monotonic()), 1)
