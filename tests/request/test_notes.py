"""What is noted of a request that took an unusual course."""

import pytest

from spooky._core import reasons
from spooky._core.admission import PASSED_MAX
from spooky._core.decisions import CANDIDATE, STAGE
from spooky.control.lives import _DENIED_TEXTS
from spooky.observe.decisions import NoteKind, _notes
from spooky.upstream.excluded import EXCLUDED_MAX
from tests.support.tried import World


def kinds(client):
    notes = client.handler.record.notes
    return [note.kind for note in _notes(notes.data(), notes.count)] if notes is not None else []


@pytest.mark.parametrize("kept", [False, True])
def test_notes_are_made_only_where_decisions_are_kept(kept):
    world = World(resilience={"hedging": {"enabled": True, "delay_ms": 100}})
    world.service.keep_decisions(1 << 20 if kept else 0)
    again = world.request()
    world.connect().fail()
    world.runtime.sleep(0.11)
    world.connect().fail(reasons.UPSTREAM_RESET)
    hedged = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    world.connect().answer(200)
    assert first.stream.was_reset is reasons.HEDGE_LOST
    for number in range(3):
        world.upstream.balancer.set_eligible(number, False)
    refused = world.request()
    assert (again.status, hedged.status, refused.status) == (502, 200, 503)
    made = [set(kinds(client)) for client in (again, hedged, refused)]
    assert made == (
        [
            {NoteKind.TRY_ENDED, NoteKind.TRY_BEGAN, NoteKind.RETRY_DENIED},
            {NoteKind.TRY_BEGAN, NoteKind.HEDGE_BEGAN, NoteKind.TRY_ENDED},
            {NoteKind.REFUSED, NoteKind.EXCLUDED},
        ]
        if kept
        else [set()] * 3
    )
    world.check_idle()


@pytest.mark.parametrize("out", [EXCLUDED_MAX - 1, EXCLUDED_MAX + 3])
def test_the_first_backends_that_are_out_are_noted(out):
    world = World(backends=EXCLUDED_MAX + 4)
    world.service.keep_decisions(1 << 20)
    for number in range(out):
        world.upstream.balancer.set_eligible(number, False)
    client = world.request()
    assert kinds(client) == [NoteKind.EXCLUDED] * min(out, EXCLUDED_MAX)
    world.connect().answer(200)
    assert client.status == 200
    world.check_idle()


def noted(client, kind):
    notes = client.handler.record.notes
    found = _notes(notes.data(), notes.count) if notes is not None else ()
    return [(note.name, note.reason.code, note.numbers[:2]) for note in found if note.kind is kind]


def fill(world, *backends):
    """Take all places of some backends."""
    for number in backends:
        gate = world.upstream.backends[number].stage.gate
        while gate.try_enter(1):
            pass


def empty(world, *backends):
    for number in backends:
        world.upstream.backends[number].stage.gate.leave()


def open_breaker(world, number):
    """Have a backend fail until it is left alone."""
    for other in range(len(world.upstream.backends)):
        world.upstream.balancer.set_eligible(other, other == number)
    for _ in range(3):
        world.request()
        world.refuse()
    for other in range(len(world.upstream.backends)):
        world.upstream.balancer.set_eligible(other, True)


ONE_EACH = {"per_backend_inflight_limit": 1, "inflight_acquire_wait_ms": 0}
NO_RETRIES = {"retry": {"conditions": []}}


def test_backends_that_did_not_let_it_in_are_noted_with_their_numbers():
    world = World(performance=ONE_EACH)
    fill(world, 0, 1)
    client = world.request()
    passed = noted(client, NoteKind.PASSED_OVER)
    assert ("b0", "backend_inflight", (1, 1)) in passed
    assert {name for name, _, _ in passed} <= {"b0", "b1"}
    world.connect().answer(200)
    empty(world, 0, 1)
    world.check_idle()


def test_who_is_refused_is_told_of_the_backend_that_could_have_served_soonest():
    """One backend is left alone and another merely full: a place may be free any moment."""
    for first in range(2):
        world = World(backends=2, resilience=NO_RETRIES, performance=ONE_EACH)
        open_breaker(world, first)
        fill(world, 1 - first)
        for _ in range(2):  # The balancer begins with either.
            client = world.request()
            assert client.status == 503
            assert client.handler.record.detail == "backend 1 of 1"
            assert noted(client, NoteKind.REFUSED) == [("backend", "backend_inflight", (1, 1))]
            assert {name for name, *_ in noted(client, NoteKind.PASSED_OVER)} == {"b0", "b1"}
        empty(world, 1 - first)


def test_who_may_wait_waits_for_the_full_backend_and_not_for_one_that_is_left_alone():
    world = World(
        backends=2, resilience=NO_RETRIES, performance={**ONE_EACH, "inflight_acquire_wait_ms": 500}
    )
    open_breaker(world, 0)
    fill(world, 1)
    clients = [world.request(), world.request()]
    # As many wait as the limit lets in: one of the two is refused at once.
    assert [client.status for client in clients] == [0, 503]
    world.runtime.sleep(0.1)
    empty(world, 1)
    world.connect().answer(200)
    assert clients[0].status == 200
    assert noted(clients[0], NoteKind.WAITED) == [("backend", "backend_inflight", (1, 1))]
    assert noted(clients[0], NoteKind.ENTERED) == [("backend", "backend_inflight", (0, 0))]
    assert world.counted("inflight_wait_admit_total", scope="backend") == 1
    world.runtime.sleep(0.01)
    world.check_idle()


def test_where_all_are_left_alone_that_is_the_reason():
    world = World(backends=2, resilience=NO_RETRIES, performance=ONE_EACH)
    open_breaker(world, 0)
    open_breaker(world, 1)
    client = world.request()
    assert noted(client, NoteKind.REFUSED)[0][1] == "circuit_open"
    assert len(noted(client, NoteKind.PASSED_OVER)) == 2


def test_no_more_than_a_few_are_remembered_as_passed_over_but_one_that_is_full_always_is():
    many = PASSED_MAX + 6
    world = World(backends=many, resilience=NO_RETRIES, performance=ONE_EACH)
    for number in range(many - 1):
        open_breaker(world, number)
    fill(world, many - 1)
    for _ in range(many):
        client = world.request()
        assert noted(client, NoteKind.REFUSED)[0][1] == "backend_inflight"
        assert len(noted(client, NoteKind.PASSED_OVER)) == PASSED_MAX


def test_a_retry_that_finds_no_place_is_noted_with_the_numbers():
    world = World(backends=2, performance=ONE_EACH)
    client = world.request()
    busy = world.connect()
    fill(world, 1 - busy.backend)
    busy.fail()
    world.runtime.sleep(1)
    refused = noted(client, NoteKind.REFUSED)
    assert refused[0] == ("backend", "backend_inflight", (1, 1))
    empty(world, 1 - busy.backend)


def test_whoever_is_out_is_looked_up_when_that_changes_and_not_for_each_request():
    world = World(backends=4)
    world.upstream.balancer.set_eligible(3, False)
    excluded = world.upstream.excluded
    for _ in range(5):
        client = world.request()
        assert noted(client, NoteKind.EXCLUDED) == [("b3", "no_backend", (3, 0))]
        world.connect().answer(200)
    assert excluded.look() is excluded.look()
    world.upstream.backends[3].health.eject(reasons.EJECTED_LATENCY, 2_000.0)
    client = world.request()
    assert noted(client, NoteKind.EXCLUDED) == [("b3", "latency", (2, 0))]
    world.connect().answer(200)
    world.upstream.balancer.set_eligible(3, True)
    client = world.request()
    assert noted(client, NoteKind.EXCLUDED) == []
    world.connect().answer(200)
    world.check_idle()


def test_what_a_backend_was_held_against_is_noted_as_it_was_before_the_request():
    world = World(backends=3, balancing="least-request")
    world.service.keep_decisions(1 << 20)
    for _ in range(30):
        client = world.request()
        admitted = client.handler.record.admitted
        chosen, *others = CANDIDATE.iter_unpack(admitted.data()[-20 * admitted.candidates :])
        assert len(others) <= 1
        position, is_chosen, active, weight, latency, score = chosen
        assert is_chosen
        assert world.upstream.backends[position].id == client.handler.record.backend
        assert active == world.upstream.balancer.active(position) - 1
        assert (weight, latency, score) == (100, -1, pytest.approx(active / 100))
        for other in others:
            assert not other[1]
            assert other[2] == world.upstream.balancer.active(other[0])
            assert score <= other[5]


def test_the_stages_that_let_a_refused_request_in_are_kept_with_their_numbers():
    """As they were with the request: its places are given back when it is refused further on."""
    world = World(
        backends=2,
        performance={**ONE_EACH, "per_upstream_inflight_limit": 7},
        resilience=NO_RETRIES,
    )
    fill(world, 0, 1)
    client = world.request()
    assert client.status == 503
    names = [stage.name for stage in world.upstream.stages]
    admitted = client.handler.record.admitted
    told = {
        name.rstrip(b"\0").decode(): (value, limit)
        for value, limit, name in STAGE.iter_unpack(admitted.data())
    }
    assert list(told) == names
    assert told["upstream"] == (1, 7)
    empty(world, 0, 1)
    for number in range(2):
        world.upstream.balancer.set_eligible(number, False)
    nowhere = world.request()
    assert nowhere.handler.record.admitted.count == len(names)
    world.check_idle()


def test_of_a_request_that_a_stage_refuses_only_those_before_it_are_kept():
    world = World(
        performance={"per_upstream_inflight_limit": 1, "inflight_acquire_wait_ms": 0},
        resilience=NO_RETRIES,
    )
    first = world.request()
    second = world.request()
    assert noted(second, NoteKind.REFUSED) == [("upstream", "upstream_inflight", (1, 1))]
    names = [stage.name for stage in world.upstream.stages]
    assert second.handler.record.admitted.count == names.index("upstream")
    world.connect().answer(200)
    assert first.status == 200
    world.check_idle()


def test_a_retry_that_was_denied_is_so_once_whatever_comes_of_the_response():
    """The status that would be tried again is passed on, and then its body is cut."""
    world = World(backends=1)
    client = world.request("POST")
    backend = world.connect()
    backend.answer(503, b"half", ends=False)
    backend.fail()
    assert [name for name, *_ in noted(client, NoteKind.RETRY_DENIED)] == ["method"]
    assert world.counted("retry_denied_total") == 1
    world.check_idle()


@pytest.mark.parametrize(
    ("resilience", "fails", "rule"),
    [
        ({"retry_budget": {"min_retries": 0, "ratio_percent": 1}}, "refuse", "budget"),
        ({"retry": {"conditions": []}}, "refuse", "condition"),
        ({"retry": {"connect_tries": 0}}, "refuse", "tries"),
        ({}, "later", "pause"),
        ({}, "post", "method"),
    ],
)
def test_why_no_other_try_was_made_is_noted(resilience, fails, rule):
    world = World(backends=1, resilience=resilience)
    client = world.request("POST" if fails == "post" else "GET")
    if fails == "refuse":
        world.refuse()
    elif fails == "later":
        world.connect().answer(503, b"", (b"retry-after", b"3600"))
    else:
        world.connect().fail()
    assert [name for name, *_ in noted(client, NoteKind.RETRY_DENIED)] == [rule]
    assert rule in _DENIED_TEXTS
    assert world.counted("retry_denied_total", reason=rule) == 1
    world.check_idle()


def test_the_first_try_is_noted_once_another_follows_as_of_when_it_began():
    world = World(backends=2)
    client = world.request()
    began = world.runtime.now()
    world.runtime.sleep(0.5)
    first = world.refuse()
    world.connect().answer(200)
    notes = client.handler.record.notes
    tries = [
        (note.name, note.at, note.numbers[0])
        for note in _notes(notes.data(), notes.count)
        if note.kind is NoteKind.TRY_BEGAN
    ]
    assert tries == [
        (f"b{first}", pytest.approx(began), 1),
        (f"b{1 - first}", pytest.approx(began + 0.5, abs=0.1), 2),
    ]
