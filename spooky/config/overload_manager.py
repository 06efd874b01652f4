"""The ``resilience.overload`` section: what is done as the machine's resources run out."""

from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from spooky.config.fields import Bytes, Section, described
from spooky.config.report import Report

REFRESH_MIN_MS: Final = 50  # each look costs every worker some microseconds
REFRESH_MAX_MS: Final = 10_000  # rarer looks miss what they are for
LAG_MIN_MS: Final = 10  # a turn of a busy loop takes milliseconds
LAG_MAX_MS: Final = 60_000
MARGIN_MAX: Final = 0.5
SHARE_MIN: Final = 0.01  # what is finer is noise

_PATH: Final = ("resilience", "overload")

Threshold: TypeAlias = Annotated[float, Meta(ge=SHARE_MIN, le=1.0)] | None


class Triggers(Section, frozen=True):
    """The pressures, from 0 to 1, that have an action begin: any that is named; null never does.

    Naming one replaces all that the action has by default.
    """

    memory: Annotated[
        Threshold,
        described("Share of the memory that may be used: see `memory_max_bytes`."),
    ] = None
    event_loop: Annotated[
        Threshold,
        described("How late the worker's event loop comes, as a share of `event_loop_max_lag_ms`."),
    ] = None
    descriptors: Annotated[
        Threshold,
        described("Share of the worker's open files, among them TCP connections, in its limit."),
    ] = None
    connections: Annotated[
        Threshold,
        described(
            "Share of `performance.max_active_connections` that are open, QUIC or TCP, whichever "
            "is greater."
        ),
    ] = None

    def items(self) -> Iterator[tuple[str, float]]:
        """Yield what triggers, with its threshold."""
        for resource in self.__struct_fields__:
            threshold = getattr(self, resource)
            if threshold is not None:
                yield resource, threshold


class MemoryTrigger(Section, frozen=True):
    """The pressure on memory, from 0 to 1, that has an action begin; null never does."""

    memory: Annotated[
        Threshold,
        described("Share of the memory that may be used: see `memory_max_bytes`."),
    ] = None

    def items(self) -> Iterator[tuple[str, float]]:
        """Yield what triggers, with its threshold."""
        if self.memory is not None:
            yield "memory", self.memory


class OverloadActions(Section, frozen=True):
    """What is done, the gentlest first."""

    shorten_idle_timeouts: Annotated[
        Triggers,
        described(
            "Close connections that have been idle for less than their timeout: the further "
            "pressure is above the threshold the sooner, down to a tenth. By default `memory: "
            "0.8`, `descriptors: 0.8`, `connections: 0.9`."
        ),
    ] = Triggers(memory=0.8, descriptors=0.8, connections=0.9)
    stop_keep_alive: Annotated[
        Triggers,
        described(
            "Have connections that bring a request end after it: `Connection: close` over "
            "HTTP/1.1, GOAWAY over HTTP/2 and HTTP/3. By default `memory: 0.85`, `descriptors: "
            "0.9`."
        ),
    ] = Triggers(memory=0.85, descriptors=0.9)
    prove_addresses: Annotated[
        Triggers,
        described(
            "Have new QUIC clients prove their address first (Retry), as with `quic_retry: "
            "always`. By default `memory: 0.88`, `event_loop: 0.5`."
        ),
    ] = Triggers(memory=0.88, event_loop=0.5)
    refuse_connections: Annotated[
        Triggers,
        described(
            "Take no new connections: TCP is closed, QUIC clients that proved their address get "
            "CONNECTION_REFUSED, others no answer. By default `memory: 0.92`, `event_loop: 0.9`, "
            "`descriptors: 0.95`.",
            hazard="Clients that try another address of yours at once do so; browsers may show an "
            "error.",
        ),
    ] = Triggers(memory=0.92, event_loop=0.9, descriptors=0.95)
    shed_low_priority: Annotated[
        Triggers,
        described(
            "Shed requests with 503 (`overload_shed`), by the `priority` of their routes: the "
            "further pressure is above the threshold, the more of them and the higher. By default "
            "`memory: 0.93`, `event_loop: 0.8`."
        ),
    ] = Triggers(memory=0.93, event_loop=0.8)
    reset_largest_streams: Annotated[
        MemoryTrigger,
        described(
            "Reset the requests that hold the most memory, and no more of them than needed: with "
            "503 (`overload_reset`) where no response has begun. By default `memory: 0.95`.",
            hazard="Clients that read slowly lose responses that have begun.",
        ),
    ] = MemoryTrigger(memory=0.95)

    def items(self) -> Iterator[tuple[str, Triggers | MemoryTrigger]]:
        """Yield each action with its triggers."""
        for action in self.__struct_fields__:
            yield action, getattr(self, action)


class Overload(Section, frozen=True):
    """What is done as resources run out, by the pressure on each: 0 is none, 1 all of it."""

    enabled: Annotated[
        bool,
        described(
            "Measure pressures and act on them.",
            hazard="Off: a machine that runs out of memory loses all its connections at once.",
        ),
    ] = True
    refresh_interval_ms: Annotated[
        int,
        Meta(ge=REFRESH_MIN_MS, le=REFRESH_MAX_MS, extra={"unit": "ms"}),
        described("How often pressures are measured."),
    ] = 250
    memory_max_bytes: Annotated[
        Bytes | None,
        described(
            "Memory that all processes of Spooky may hold together; null for that of the machine. "
            "Limits of their cgroups and of those above count besides, whichever is nearer.",
            hazard="Less than what an idle worker needs, and every connection is refused.",
        ),
    ] = None
    event_loop_max_lag_ms: Annotated[
        int,
        Meta(ge=LAG_MIN_MS, le=LAG_MAX_MS, extra={"unit": "ms"}),
        described("An event loop that comes so late on average, within about a second, is full."),
    ] = 1_000
    recover_margin: Annotated[
        float,
        Meta(ge=SHARE_MIN, le=MARGIN_MAX),
        described(
            "An action ends when pressures are so far below its thresholds, and a second after it "
            "began at the earliest."
        ),
    ] = 0.05
    actions: Annotated[OverloadActions, described("What is done, and from when.")] = (
        OverloadActions()
    )


def check_overload_manager(overload: Overload, report: Report) -> None:
    """Report what is wrong with the thresholds of overload."""
    for action, triggers in overload.actions.items():
        for resource, threshold in triggers.items():
            if threshold <= overload.recover_margin:
                report.error(
                    (*_PATH, "actions", action, resource),
                    f"{threshold} is not more than recover_margin, which is "
                    f"{overload.recover_margin}: once begun, this would never end",
                    "raise it, or lower recover_margin",
                    related=((*_PATH, "recover_margin"),),
                )
    first, second = overload.actions.prove_addresses, overload.actions.refuse_connections
    refusing = dict(second.items())
    for resource, threshold in first.items():
        limit = refusing.get(resource)
        if limit is not None and threshold > limit:
            report.error(
                (*_PATH, "actions", "prove_addresses", resource),
                f"{threshold} is more than that of refuse_connections, which is {limit}: who is "
                "refused is not asked for an address",
                f"lower it to {limit} or less",
                related=((*_PATH, "actions", "refuse_connections", resource),),
            )
