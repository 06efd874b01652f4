"""Compiling when requests are tried again."""

from spooky._core.reasons import Retry
from spooky._core.shared import BUCKET_VALUES
from spooky.config.schema import Configuration
from spooky.observe.counters import Counters
from spooky.overload.hedging import HedgeDelay, HedgePolicy
from spooky.overload.retry import RetryPolicy
from spooky.overload.retry_budget import RetryBudget, shared_counts


def compile_retry(configuration: Configuration, name: str, counters: Counters) -> RetryPolicy:
    """Return when requests to an upstream are tried again.

    Arguments:
        configuration: The whole.
        name: The upstream's.
        counters: The worker's, in the segment where budgets are shared.
    """
    settings = configuration.retry_of(name)
    timeout = settings.per_try_timeout_ms
    return RetryPolicy(
        conditions=frozenset(Retry(condition) for condition in settings.conditions),
        connect_tries=settings.connect_tries,
        tries=settings.tries,
        methods=frozenset(method.encode() for method in settings.methods),
        statuses=frozenset(settings.statuses),
        try_timeout=timeout / 1000 if timeout is not None else None,
        backoff_base=settings.backoff_base_ms / 1000,
        backoff_max=settings.backoff_max_ms / 1000,
        body_max=settings.body_max_bytes,
        body_places_max=configuration.performance.retry_buffer_global_cap_bytes,
        budget=_budget(configuration, name, counters),
        hedging=_hedging(configuration, name, counters),
    )


def _budget(configuration: Configuration, name: str, counters: Counters) -> RetryBudget | None:
    settings = configuration.resilience.retry_budget
    if not settings.enabled:
        return None
    return RetryBudget(
        shared_counts(counters, name, settings.window_ms / 1000),
        settings.per_route_ratio_percent.get(name, settings.ratio_percent),
        settings.min_retries,
    )


def _hedging(configuration: Configuration, name: str, counters: Counters) -> HedgePolicy | None:
    settings = configuration.resilience.hedging
    if not settings.enabled or (settings.route_allowlist and name not in settings.route_allowlist):
        return None

    def read() -> list[int]:
        # Asked each time, as counters may be forgotten meanwhile.
        first = counters.slot("upstream_first_byte_seconds", {"upstream": name})
        return list(counters.values[first : first + BUCKET_VALUES])

    return HedgePolicy(
        frozenset(method.encode() for method in settings.safe_methods),
        HedgeDelay(settings.delay_ms / 1000, settings.delay_percentile, read),
    )
