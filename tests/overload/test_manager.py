"""The rules against overload, with pressures and time as arguments."""

import pytest

from spooky._core.stages import PRESSURE_START
from spooky.config.overload_manager import Overload, OverloadActions, Triggers
from spooky.overload.manager import (
    HOLD_SECONDS,
    IDLE_SHARE_MIN,
    Action,
    LagMeter,
    OverloadManager,
    Resource,
)

SETTINGS = Overload()


def begun(manager: OverloadManager, pressure: float, now: float) -> list[tuple[Action, bool]]:
    """Put a pressure on memory, and return what changes."""
    transitions = manager.update({Resource.MEMORY: pressure}, now)
    return [(one.action, one.begins) for one in transitions]


def test_actions_begin_in_order_as_memory_runs_out_and_end_in_the_reverse() -> None:
    manager = OverloadManager(SETTINGS)
    begins: list[Action] = []
    ends: list[Action] = []
    now = 0.0
    percents = [*range(50, 101), *range(100, 49, -1)]
    for percent in percents:
        now += HOLD_SECONDS
        for action, begun_now in begun(manager, percent / 100, now):
            (begins if begun_now else ends).append(action)
    assert begins == list(Action)
    assert ends == list(reversed(Action))


@pytest.mark.parametrize("action", Action)
def test_each_action_begins_at_its_threshold_and_ends_below_it_by_the_margin(
    action: Action,
) -> None:
    threshold = getattr(SETTINGS.actions, action).memory
    manager = OverloadManager(SETTINGS)
    begun(manager, threshold - 0.001, 0.0)
    assert not manager.is_taken(action)
    begun(manager, threshold, 1.0)
    assert manager.is_taken(action)
    begun(manager, threshold - SETTINGS.recover_margin + 0.001, 10.0)
    assert manager.is_taken(action)
    begun(manager, threshold - SETTINGS.recover_margin - 0.001, 11.0)
    assert not manager.is_taken(action)


def test_an_action_lasts_a_second_however_soon_it_helps() -> None:
    manager = OverloadManager(SETTINGS)
    now, changes = 0.0, 0
    while now < 10.0:
        now += 0.1
        # As if it helped at once, and its end brought the pressure back at once.
        taken = manager.is_taken(Action.SHORTEN_IDLE_TIMEOUTS)
        changes += len(begun(manager, 0.5 if taken else 0.8, now))
    assert changes <= 2 * 10.0 / HOLD_SECONDS


def test_a_pressure_that_wavers_around_a_threshold_begins_an_action_once() -> None:
    manager = OverloadManager(SETTINGS)
    changes = [
        change
        for step in range(1000)
        for change in begun(manager, 0.8 + (0.02 if step % 2 else -0.02), float(step))
    ]
    assert changes == [(Action.SHORTEN_IDLE_TIMEOUTS, True)]


def test_any_trigger_begins_an_action_and_all_have_to_end_for_its_end() -> None:
    manager = OverloadManager(SETTINGS)
    (first,) = manager.update({Resource.CONNECTIONS: 0.95}, 0.0)
    assert (first.action, first.resource, first.pressure) == (
        Action.SHORTEN_IDLE_TIMEOUTS, Resource.CONNECTIONS, 0.95,
    )  # fmt: skip
    both = {Resource.CONNECTIONS: 0.1, Resource.DESCRIPTORS: 0.81}
    assert manager.update(both, 10.0) == []
    (last,) = manager.update({Resource.CONNECTIONS: 0.1, Resource.DESCRIPTORS: 0.1}, 20.0)
    assert not last.begins


def test_a_resource_that_is_not_named_triggers_nothing() -> None:
    settings = Overload(actions=OverloadActions(stop_keep_alive=Triggers(connections=0.5)))
    manager = OverloadManager(settings)
    manager.update({Resource.MEMORY: 1.0}, 0.0)
    assert not manager.is_taken(Action.STOP_KEEP_ALIVE)
    manager.update({Resource.CONNECTIONS: 0.5}, 1.0)
    assert manager.is_taken(Action.STOP_KEEP_ALIVE)


def test_memory_is_short_while_any_action_is_taken_for_it() -> None:
    manager = OverloadManager(SETTINGS)
    manager.update({Resource.CONNECTIONS: 1.0}, 0.0)
    assert not manager.is_short_of_memory
    begun(manager, 0.85, 10.0)
    assert manager.is_short_of_memory
    begun(manager, 0.1, 20.0)
    assert not manager.is_short_of_memory


def test_idle_timeouts_shrink_with_the_pressure_down_to_a_tenth() -> None:
    manager = OverloadManager(SETTINGS)
    shares = []
    for pressure in (0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.5):
        begun(manager, pressure, 0.0)
        shares.append(round(manager.idle_share, 3))
    assert shares == [1.0, 1.0, 0.75, 0.5, 0.25, IDLE_SHARE_MIN, IDLE_SHARE_MIN]


def test_what_is_done_is_seen_by_those_who_do_it() -> None:
    manager = OverloadManager(SETTINGS)
    measures = manager.measures
    begun(manager, 0.9, 0.0)
    assert measures.stops_keep_alive
    assert measures.proves_addresses
    assert not measures.refuses_connections
    begun(manager, 0.95, 1.0)
    assert measures.refuses_connections
    begun(manager, 0.1, 10.0)
    assert not measures.stops_keep_alive
    assert not measures.refuses_connections


def test_switching_it_off_ends_all_at_once() -> None:
    manager = OverloadManager(SETTINGS)
    begun(manager, 1.0, 0.0)
    manager.settings = Overload(enabled=False)
    ended = begun(manager, 1.0, 0.1)
    assert ended == [(action, False) for action in Action]
    assert begun(manager, 1.0, 0.2) == []


def test_one_slow_turn_of_the_loop_is_no_pressure_and_many_are() -> None:
    meter = LagMeter()
    meter.note(1.0, 1.0)
    assert meter.seconds <= 0.3
    for _ in range(20):
        meter.note(1.0, 1.0)
    assert meter.seconds == pytest.approx(1.0, abs=0.01)
    for _ in range(20):
        meter.note(-0.001, 1.0)
    assert meter.seconds < 0.01


def test_a_machine_that_stood_still_for_a_minute_is_one_slow_turn() -> None:
    meter = LagMeter()
    meter.note(60.0, 1.0)
    assert meter.seconds <= 0.3


def test_a_late_loop_sheds_but_never_the_highest_priority_which_memory_does() -> None:
    manager = OverloadManager(SETTINGS)
    manager.update({Resource.EVENT_LOOP: 5.0}, 0.0)
    assert PRESSURE_START[-2] < manager.shedding < PRESSURE_START[-1]
    manager.update({Resource.EVENT_LOOP: 5.0, Resource.MEMORY: 1.0}, 1.0)
    assert manager.shedding == 1.0
