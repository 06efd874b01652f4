"""Which actions are taken against overload: the rules, without clock, sockets and files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from spooky._core.stages import PRESSURE_START
from spooky.config.overload_manager import Overload
from spooky.observe.counters import Counters

HOLD_SECONDS: Final = 1.0
"""How long an action lasts at least, so that one that helps at once does not flap."""

IDLE_SHARE_MIN: Final = 0.1
"""Which share of an idle timeout is left under the greatest pressure."""

SHED_FROM: Final = PRESSURE_START[0]
"""What requests are shed for at the threshold: the lowest priority begins there."""

LOOP_SHED_MAX: Final = PRESSURE_START[-1] - 0.01
"""The most that requests are shed for as the loop is late: the highest priority is always served,
as a loop that was stopped from outside says nothing about the load."""

LOOP_SEVERITY_MAX: Final = (LOOP_SHED_MAX - SHED_FROM) / (1.0 - SHED_FROM)

LAG_WEIGHT: Final = 0.3
"""Of the newest lag in the average: about a second at the usual interval, so that one slow turn is
no pressure, and some are."""


class Resource(StrEnum):
    """What can run out."""

    MEMORY = "memory"
    EVENT_LOOP = "event_loop"
    DESCRIPTORS = "descriptors"
    CONNECTIONS = "connections"


class Action(StrEnum):
    """What is done about it, the gentlest first."""

    SHORTEN_IDLE_TIMEOUTS = "shorten_idle_timeouts"
    STOP_KEEP_ALIVE = "stop_keep_alive"
    PROVE_ADDRESSES = "prove_addresses"
    REFUSE_CONNECTIONS = "refuse_connections"
    SHED_LOW_PRIORITY = "shed_low_priority"
    RESET_LARGEST_STREAMS = "reset_largest_streams"


class Transition(NamedTuple):
    """An action that begins or ends.

    Attributes:
        action: Which.
        begins: Whether it begins.
        resource: What it is taken for.
        pressure: On that resource now.
    """

    action: Action
    begins: bool
    resource: Resource
    pressure: float


class Measures:
    """What is done now, as those see it who do it, with each request or connection.

    Attributes:
        stops_keep_alive: Whether connections that bring a request end after it.
        proves_addresses: Whether new QUIC clients have to prove their address.
        refuses_connections: Whether none are taken.
        acts: Whether anything is done.
        lag_pressure: How late the event loop is, as a share of the lag that is too much.
    """

    __slots__ = (
        "acts", "lag_pressure", "proves_addresses", "refuses_connections", "stops_keep_alive",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stops_keep_alive = False
        self.proves_addresses = False
        self.refuses_connections = False
        self.acts = False
        self.lag_pressure = 0.0


Thresholds = Sequence[tuple[Resource, float]]


@dataclass(slots=True)
class _State:
    """Since when and what for an action is taken, and how far beyond its threshold that is."""

    since: float
    resource: Resource
    severity: float = 0.0


class OverloadManager:
    """Follows pressures, and says which actions begin and end.

    Each action begins when one of its triggers reaches its threshold, and ends when all of them are
    below theirs by the margin.

    Arguments:
        settings: The thresholds.

    Attributes:
        measures: What is done now.
    """

    def __init__(self, settings: Overload) -> None:
        self.measures = Measures()
        self._taken: dict[Action, _State] = {}
        self.settings = settings

    @property
    def settings(self) -> Overload:
        """The thresholds."""
        return self._settings

    @settings.setter
    def settings(self, settings: Overload) -> None:
        self._settings = settings
        # Made once, as every worker looks at them some times a second, however little it has to do.
        self._triggers: list[tuple[Action, Thresholds]] = [
            (
                Action(name),
                [(Resource(resource), threshold) for resource, threshold in triggers.items()]
                if settings.enabled
                else [],
            )
            for name, triggers in settings.actions.items()
        ]

    def is_taken(self, action: Action) -> bool:
        """Return whether an action is taken now."""
        return action in self._taken

    @property
    def is_short_of_memory(self) -> bool:
        """Whether any action is taken for memory."""
        return any(state.resource is Resource.MEMORY for state in self._taken.values())

    @property
    def idle_share(self) -> float:
        """Which share of idle timeouts is left; 1.0 for all."""
        state = self._taken.get(Action.SHORTEN_IDLE_TIMEOUTS)
        return 1.0 if state is None else max(IDLE_SHARE_MIN, 1.0 - state.severity)

    @property
    def shedding(self) -> float:
        """Which pressure requests are shed for by priority, from 0, for none, to 1."""
        state = self._taken.get(Action.SHED_LOW_PRIORITY)
        if state is None:
            return 0.0
        return SHED_FROM + (1.0 - SHED_FROM) * state.severity

    def memory_to_free(self, pressure: float) -> float:
        """Return which share of all memory has to be freed so that no stream need be reset.

        Arguments:
            pressure: On memory now.
        """
        threshold = self.settings.actions.reset_largest_streams.memory
        if threshold is None or not self.is_taken(Action.RESET_LARGEST_STREAMS):
            return 0.0
        return max(0.0, pressure - (threshold - self.settings.recover_margin))

    def update(self, pressures: Mapping[Resource, float], now: float) -> list[Transition]:
        """Take the pressures of a moment, and return what changes.

        Arguments:
            pressures: From 0 to 1, or more.
            now: Seconds on any clock that does not go back.
        """
        transitions = []
        for action, thresholds in self._triggers:
            transition = self._follow(action, thresholds, pressures, now)
            if transition is not None:
                transitions.append(transition)
        measures = self.measures
        measures.stops_keep_alive = Action.STOP_KEEP_ALIVE in self._taken
        measures.proves_addresses = Action.PROVE_ADDRESSES in self._taken
        measures.refuses_connections = Action.REFUSE_CONNECTIONS in self._taken
        measures.acts = bool(self._taken)
        measures.lag_pressure = pressures.get(Resource.EVENT_LOOP, 0.0)
        return transitions

    def _follow(
        self,
        action: Action,
        thresholds: Thresholds,
        pressures: Mapping[Resource, float],
        now: float,
    ) -> Transition | None:
        state = self._taken.get(action)
        margin = 0.0 if state is None else self._settings.recover_margin
        excess, resource = -1.0, Resource.MEMORY
        for each, threshold in thresholds:
            beyond = pressures.get(each, 0.0) - threshold + margin
            if beyond >= excess:
                excess, resource = beyond, each
        begins = excess >= 0.0 and state is None
        if begins:
            state = self._taken[action] = _State(now, resource)
        if state is None:
            return None
        if excess >= 0.0:
            state.resource = resource
        state.severity = _severity(thresholds, pressures)
        is_held = now - state.since < HOLD_SECONDS and self._settings.enabled
        if not begins and (excess >= 0.0 or is_held):
            return None
        if not begins:
            del self._taken[action]
        return Transition(action, begins, state.resource, pressures.get(state.resource, 0.0))


def _severity(thresholds: Thresholds, pressures: Mapping[Resource, float]) -> float:
    """Return how much of the way from a threshold to 1 the pressure has gone, from 0 to 1.

    Of the loop's lag it is never all.
    """
    severity = 0.0
    for resource, threshold in thresholds:
        beyond = pressures.get(resource, 0.0) - threshold
        if beyond > 0.0:
            share = 1.0 if threshold >= 1.0 else min(beyond / (1.0 - threshold), 1.0)
            is_loop = resource is Resource.EVENT_LOOP
            severity = max(severity, min(share, LOOP_SEVERITY_MAX) if is_loop else share)
    return severity


class LagMeter:
    """Averages how late an event loop comes.

    Attributes:
        seconds: The average.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def note(self, lag: float, lag_max: float) -> None:
        """Take how late it came now.

        Arguments:
            lag: Seconds.
            lag_max: A lag beyond counts as this, so that one pause, however long, is one slow turn.
        """
        self.seconds += LAG_WEIGHT * (min(max(lag, 0.0), lag_max) - self.seconds)


def action_slots(counters: Counters) -> dict[Action, int]:
    """Return the slot that counts how often each action was taken."""
    return {
        action: counters.slot("overload_actions_total", {"action": action.value})
        for action in Action
    }
