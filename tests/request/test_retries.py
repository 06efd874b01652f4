"""What is sent to a backend once more, and what is not: real exchanges in simulated time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.outcomes import UNCOUNTED, outcome_of_reason
from spooky._core.shared import BUCKET_VALUES
from spooky.generation import retry_policies
from spooky.observe.counters import CounterReader
from spooky.overload.hedging import KEPT_SECONDS
from tests.support.tried import World

LOST = reasons.UPSTREAM_CONNECTION_LOST
RESET = reasons.UPSTREAM_RESET
REFUSED = reasons.UPSTREAM_REFUSED

NO_BUDGET = {"retry_budget": {"ratio_percent": 0, "min_retries": 0}}


def retry(**settings):
    return {"retry": settings}


# --- conditions -------------------------------------------------------------------------------
def test_a_backend_that_refuses_connections_is_passed_over_twice():
    world = World(backends=3)
    client = world.request("POST", b"order")
    backends = [world.refuse(), world.refuse()]
    upstream = world.connect()
    assert len({*backends, upstream.backend}) == 3, "others come first, and at once"
    assert upstream.stream.body == b"order"
    upstream.answer(200, b"done")
    assert (client.status, client.body, client.ended) == (200, b"done", True)
    assert world.counted("upstream_retries_total", outcome="failed") == 1
    assert world.counted("upstream_retries_total", outcome="answered") == 1
    world.check_idle()


def test_after_two_more_tries_the_client_is_told():
    world = World(backends=5)
    client = world.request()
    for _ in range(3):
        world.refuse()
    assert client.status == 502
    assert world.counted("upstream_retries_total", reason="connect_refused", outcome="failed") == 2
    world.check_idle()


@pytest.mark.parametrize("reason", [LOST, RESET], ids=lambda reason: reason.code)
def test_a_reset_before_the_head_is_tried_once_more_at_another_backend(reason):
    world = World(backends=3)
    client = world.request()
    first = world.connect()
    first.fail(reason)
    second = world.connect()
    assert second.backend != first.backend
    second.fail(reason)
    assert client.status == 502
    world.check_idle()


@pytest.mark.parametrize("reason", [LOST, RESET], ids=lambda reason: reason.code)
def test_what_a_backend_may_have_acted_on_is_not_sent_again(reason):
    world = World()
    client = world.request("POST", b"order")
    world.connect().fail(reason)
    assert client.status == 502
    assert len(world.asked) == 1
    world.check_idle()


def test_what_a_backend_says_it_did_not_do_is_sent_again_with_any_method():
    world = World()
    client = world.request("POST", b"order")
    world.connect().fail(REFUSED)
    second = world.connect()
    assert (second.stream.body, second.stream.ended) == (b"order", True)
    second.answer(201)
    assert client.status == 201
    world.check_idle()


def test_a_backend_that_answers_503_is_passed_over_and_its_stream_is_reset():
    world = World()
    client = world.request()
    first = world.connect()
    first.answer(503, b"later")
    assert first.stream.was_reset is reasons.UPSTREAM_STATUS
    assert client.heads == []
    second = world.connect()
    assert second.backend != first.backend
    second.answer(200, b"fine")
    assert (client.status, client.body) == (200, b"fine")
    world.check_idle()


def test_the_last_503_is_passed_on_with_what_it_says():
    world = World()
    client = world.request()
    world.connect().answer(503, b"first")
    world.connect().answer(503, b"second", (b"retry-after", b"9"))
    assert (client.status, client.body) == (503, b"second")
    assert (b"retry-after", b"9") in client.heads[0]
    world.check_idle()


def test_a_503_to_what_must_not_be_repeated_is_passed_on():
    world = World()
    client = world.request("POST", b"order")
    world.connect().answer(503, b"no")
    assert (client.status, client.body) == (503, b"no")
    world.check_idle()


def test_other_statuses_are_answers():
    world = World()
    for status in (404, 500, 502, 504):
        client = world.request()
        world.connect().answer(status)
        assert client.status == status
    world.check_idle()


def test_statuses_are_those_of_the_configuration():
    world = World(resilience=retry(statuses=[429, 502]))
    client = world.request()
    world.connect().answer(429)
    world.connect().answer(200)
    assert client.status == 200
    client = world.request()
    world.connect().answer(503)
    assert client.status == 503
    world.check_idle()


def test_without_conditions_nothing_is_tried_again():
    world = World(resilience=retry(conditions=[]))
    client = world.request()
    world.refuse()
    assert client.status == 502
    client = world.request()
    world.connect().answer(503)
    assert client.status == 503
    world.check_idle()


def test_a_response_that_breaks_the_protocol_is_not_tried_again():
    world = World()
    client = world.request()
    upstream = world.connect()
    upstream.caller.on_head([(b"no-status", b"x")], False)
    assert client.status == 502
    assert upstream.stream.was_reset is not None
    world.check_idle()


# --- what was sent ----------------------------------------------------------------------------
def test_nothing_is_tried_again_once_a_head_was_sent():
    world = World()
    client = world.request()
    upstream = world.connect()
    upstream.answer(200, b"begin", ends=False)
    upstream.fail(LOST)
    assert client.was_reset is LOST
    assert len(world.asked) == 1
    world.check_idle()


def test_nothing_is_tried_again_once_an_interim_response_was_sent():
    world = World()
    client = world.request()
    upstream = world.connect()
    upstream.caller.on_informational([(b":status", b"103")])
    upstream.fail(LOST)
    assert (client.informational, client.status) == ([103], 502)
    world.check_idle()


def test_nothing_is_tried_again_once_a_response_is_held_back():
    world = World(performance={"unknown_length_response_prebuffer_bytes": 1_000})
    client = world.request()
    upstream = world.connect()
    upstream.answer(200, b"begin", ends=False)
    upstream.fail(LOST)
    assert client.status == 502
    world.check_idle()


# --- bodies -----------------------------------------------------------------------------------
def test_a_body_that_still_comes_is_sent_whole_to_the_second_backend():
    world = World()
    client = world.request("PUT", b"one,", ends=False)
    first = world.connect()
    client.handler.on_data(b"two,", False)
    first.stream.accepts = False
    client.handler.on_data(b"three,", False)
    assert client.credited == 8, "what no backend took is not credited"
    assert world.service.kept.total == 14
    first.fail()
    assert client.credited == 14, "a copy is there, so the backend's place is taken by it"
    client.handler.on_data(b"four,", False)
    second = world.connect()
    assert second.stream.body == b"one,two,three,four,"
    assert not second.stream.ended
    client.handler.on_data(b"five", True)
    assert (second.stream.body, second.stream.ended) == (b"one,two,three,four,five", True)
    assert client.credited == 23, "no byte is credited twice"
    second.answer(200)
    assert client.status == 200
    world.check_idle()


def test_trailers_are_sent_again():
    world = World()
    client = world.request("PUT", b"body", ends=False)
    first = world.connect()
    client.handler.on_trailers([(b"checksum", b"1")])
    first.fail()
    second = world.connect()
    assert (second.stream.body, second.stream.trailers) == (b"body", [(b"checksum", b"1")])
    second.answer(200)
    assert client.status == 200
    world.check_idle()


@pytest.mark.parametrize("declared", [False, True], ids=["of unknown length", "too large"])
def test_a_body_larger_than_what_is_kept_is_tried_again_only_before_it_is_sent(declared):
    world = World(resilience=retry(body_max_bytes=10))
    more = [(b"content-length", b"12")] if declared else []
    client = world.request("PUT", b"x" * 6, *more, ends=False)
    world.refuse()
    upstream = world.connect()
    assert world.service.kept.total == (0 if declared else 6)
    client.handler.on_data(b"x" * 6, declared)
    assert world.service.kept.total == 0
    upstream.fail()
    assert client.status == 502
    world.check_idle()


def test_no_more_bodies_are_kept_than_there_is_room_for():
    world = World(performance={"retry_buffer_global_cap_bytes": 10})
    first, second = world.request("PUT", b"x" * 8), world.request("PUT", b"y" * 8)
    upstreams = [world.connect(), world.connect()]
    assert world.service.kept.total == 8
    for upstream in upstreams:
        upstream.fail()
    world.connect().answer(200)
    assert (first.status, second.status) == (200, 502)
    world.check_idle()


def test_without_limits_all_of_a_body_is_kept_to_be_tried_again():
    """Attack 36: who sends without end is kept without end."""

    def kept(most, of_all):
        world = World(
            resilience=retry(body_max_bytes=most),
            performance={"retry_buffer_global_cap_bytes": of_all},
        )
        client = world.request("PUT", b"", ends=False)
        world.connect()
        for _ in range(100):
            client.handler.on_data(bytes(10_000), False)
        total = world.service.kept.total
        client.handler.on_reset(reasons.CLIENT_RESET)
        world.check_idle()
        return total

    assert kept(65_536, 2**24) <= 65_536
    assert kept(2**24, 65_536) <= 65_536
    assert kept(2**24, 2**24) == 1_000_000


def test_a_body_is_let_go_of_when_the_response_begins():
    world = World()
    client = world.request("PUT", b"body")
    upstream = world.connect()
    assert world.service.kept.total == 4
    upstream.answer(200, b"begin", ends=False)
    assert world.service.kept.total == 0
    client.handler.on_reset(reasons.CLIENT_RESET)
    world.check_idle()


# --- pauses -----------------------------------------------------------------------------------
def test_one_backend_alone_is_tried_again_after_a_pause():
    world = World(backends=1)
    client = world.request()
    world.refuse()
    assert world.waiting == []
    assert world.taken == 0, "who pauses takes no place"
    world.runtime.sleep(0.03)
    world.refuse()
    world.runtime.sleep(0.06)
    world.connect().answer(200)
    assert client.status == 200
    world.check_idle()


def test_pauses_differ_from_one_request_to_the_next():
    resilience = {**retry(backoff_base_ms=200), "retry_budget": {"min_retries": 100}}
    world = World(backends=1, resilience=resilience)
    for _ in range(20):
        world.request()
    for _ in range(20):
        world.refuse()
    begun = []
    for _ in range(20):
        world.runtime.sleep(0.01)
        begun.append(len(world.waiting))
    assert begun[-1] == 20
    assert len(set(begun)) > 5, "they do not return together"
    for client in list(world.waiting):
        world.connect().answer(200)
        del client
    world.check_idle()


def test_a_client_that_leaves_in_a_pause_is_forgotten():
    world = World(backends=1)
    client = world.request("PUT", b"body")
    world.connect().fail()
    client.handler.on_reset(reasons.CLIENT_RESET)
    world.runtime.sleep(1.0)
    assert len(world.asked) == 1
    assert world.counted("upstream_retries_total", outcome="abandoned") == 1
    world.check_idle()


@pytest.mark.parametrize(("asked", "again"), [(b"0", True), (b"1", False), (b"soon", True)])
def test_a_backend_that_asks_to_be_left_alone_is(asked, again):
    world = World(backends=1)
    client = world.request()
    world.connect().answer(503, b"", (b"retry-after", asked))
    world.runtime.sleep(0.03)
    assert len(world.waiting) == again
    if again:
        world.connect().answer(200)
    assert client.status == (200 if again else 503)
    world.check_idle()


def test_another_backend_was_not_asked_to_be_left_alone():
    world = World(backends=2)
    client = world.request()
    world.connect().answer(503, b"", (b"retry-after", b"9"))
    world.connect().answer(200)
    assert client.status == 200
    world.check_idle()


# --- time -------------------------------------------------------------------------------------
def test_a_backend_that_takes_long_is_an_answer_by_default():
    world = World(performance={"backend_timeout_ms": 1_000})
    client = world.request()
    world.connect()
    world.runtime.sleep(1.1)
    assert client.status == 504
    world.check_idle()


@pytest.mark.parametrize(
    ("resilience", "performance"),
    [
        ({"conditions": ["timeout"]}, {"backend_timeout_ms": 1_000}),
        ({"conditions": ["timeout"], "per_try_timeout_ms": 1_000}, {}),
    ],
    ids=["backend_timeout_ms", "per_try_timeout_ms"],
)
def test_a_backend_that_takes_long_is_given_up_where_that_is_asked_for(resilience, performance):
    world = World(resilience={"retry": resilience}, performance=performance)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(1.1)
    assert first.stream.was_reset is not None
    second = world.connect()
    assert second.backend != first.backend
    world.runtime.sleep(1.1)
    assert second.stream.was_reset is not None
    assert client.status == 504
    world.check_idle()


def test_the_time_of_a_try_includes_connecting_and_ends_with_the_head():
    world = World(resilience=retry(conditions=["timeout"], per_try_timeout_ms=300))
    client = world.request()
    world.runtime.sleep(0.4)
    upstream = world.connect()
    upstream.answer(200, b"begin", ends=False)
    world.runtime.sleep(5.0)
    upstream.caller.on_data(b"end", True)
    assert client.body == b"beginend"
    assert len(world.asked) == 2
    world.check_idle()


def test_a_client_that_sends_slowly_uses_up_no_try():
    world = World(resilience=retry(conditions=["timeout"], per_try_timeout_ms=300))
    client = world.request("PUT", b"slow", ends=False)
    upstream = world.connect()
    world.runtime.sleep(2.0)
    assert upstream.is_live
    client.handler.on_data(b"ly", True)
    upstream.answer(200)
    assert client.status == 200
    world.check_idle()


def test_the_whole_exchange_ends_in_its_time_however_many_tries_are_left():
    world = World(
        resilience=retry(connect_tries=10),
        performance={
            "backend_total_request_timeout_ms": 1_000, "backend_body_total_timeout_ms": 900
        },
    )  # fmt: skip
    client = world.request()
    world.runtime.sleep(0.9)
    world.refuse()
    world.runtime.sleep(0.2)
    assert client.status == 408
    world.check_idle()


def test_the_time_of_a_first_try_ends_with_the_head_too():
    world = World(resilience=retry(conditions=["timeout"], per_try_timeout_ms=300))
    client = world.request()
    upstream = world.connect()
    upstream.answer(200, b"begin", ends=False)
    world.runtime.sleep(5.0)
    upstream.caller.on_data(b"end", True)
    assert client.body == b"beginend"
    world.check_idle()


def test_the_whole_exchange_ends_in_its_time_after_a_try_that_took_too_long():
    world = World(
        resilience=retry(conditions=["timeout"], tries=3),
        performance={
            "backend_timeout_ms": 1_000,
            "backend_total_request_timeout_ms": 1_500,
            "backend_body_total_timeout_ms": 1_400,
        },
    )
    client = world.request()
    world.connect()
    world.runtime.sleep(1.1)
    world.connect()
    world.runtime.sleep(0.5)
    assert client.status == 408
    world.check_idle()


def test_a_status_that_is_tried_again_opens_no_circuit():
    """An answer is no failure of the connection, whatever its status."""
    assert outcome_of_reason(reasons.UPSTREAM_STATUS) == UNCOUNTED


# --- stale connections ------------------------------------------------------------------------
def test_a_stale_connection_is_replaced_at_the_same_backend_and_costs_nothing():
    world = World(resilience=NO_BUDGET)
    client = world.request()
    first = world.connect(reused=True)
    first.fail(LOST)
    assert world.upstream.backends[first.backend].pool.discarded == 1
    second = world.connect()
    assert second.backend == first.backend
    second.answer(200)
    assert client.status == 200
    assert world.counted("upstream_retries_total", outcome="answered") == 1
    world.check_idle()


def test_a_stale_connection_is_replaced_once_then_others_are_tried():
    world = World()
    client = world.request()
    backends = []
    for _ in range(2):
        upstream = world.connect(reused=True)
        backends.append(upstream.backend)
        upstream.fail(LOST)
    third = world.connect()
    assert backends[0] == backends[1] != third.backend
    third.answer(200)
    assert client.status == 200
    world.check_idle()


@pytest.mark.parametrize(
    ("reason", "stays"), [(REFUSED, False), (reasons.UPSTREAM_GOING_AWAY, True)]
)
def test_a_kept_connection_that_goes_away_is_stale_and_one_that_refuses_a_stream_is_not(
    reason, stays
):
    """Who refuses streams has too many: it gets no second one, least of all beside the budget."""
    world = World()
    client = world.request("POST", b"body")
    first = world.connect(reused=True)
    first.fail(reason)
    second = world.connect()
    assert (second.backend == first.backend) is stays
    second.answer(200)
    assert client.status == 200
    world.check_idle()


def test_a_small_body_goes_over_the_new_connection_too():
    world = World(resilience=NO_BUDGET)
    client = world.request("PUT", b"body")
    world.connect(reused=True).fail(LOST)
    second = world.connect()
    assert second.stream.body == b"body"
    second.answer(200)
    assert client.status == 200
    world.check_idle()


# --- the budget -------------------------------------------------------------------------------
def test_without_budget_the_first_failure_is_told():
    world = World(resilience=NO_BUDGET)
    client = world.request()
    world.refuse()
    assert client.status == 502
    assert world.counted("retry_budget_exhausted_total", upstream="backend") == 1
    client = world.request()
    world.connect().answer(503, b"mine")
    assert (client.status, client.body) == (503, b"mine")
    world.check_idle()


@pytest.mark.parametrize("backends", [1, 4])
def test_while_all_backends_are_down_tries_stay_within_1_2_of_the_normal_rate(backends):
    """200 requests/s for 30 s, each with two more tries if there were no budget."""
    world = World(backends=backends, resilience={"circuit_breaker": {"enabled": False}})
    chance = random.Random(5)
    world.refusing = set(range(backends))
    clients = []
    for _ in range(6_000):
        world.runtime.sleep(chance.expovariate(200))
        clients.append(world.request())
    world.runtime.sleep(1.0)
    assert {client.status for client in clients} == {502}
    assert 1.1 <= len(world.asked) / len(clients) <= 1.2 + 10 / len(clients)
    world.check_idle()


def test_without_a_budget_that_ends_each_request_is_tried_three_times_while_all_are_down():
    """Attack 37: so backends that are down get the most of what there is to get up."""
    world = World(
        backends=4,
        resilience={
            "circuit_breaker": {"enabled": False}, "retry_budget": {"min_retries": 100_000}
        },
    )  # fmt: skip
    world.refusing = set(range(4))
    clients = []
    for _ in range(200):
        world.runtime.sleep(0.005)
        clients.append(world.request())
    world.runtime.sleep(1.0)
    assert {client.status for client in clients} == {502}
    assert len(world.asked) == 3 * len(clients)
    world.check_idle()


def test_one_of_four_backends_down_costs_clients_nothing():
    world = World(backends=4, resilience={"retry_budget": {"ratio_percent": 40}})
    world.refusing = {2}
    clients = []
    for _ in range(400):
        world.runtime.sleep(0.005)
        clients.append(world.request())
        world.connect().answer(200)
    assert {client.status for client in clients} == {200}
    world.check_idle()


# --- places -----------------------------------------------------------------------------------
def test_a_retry_has_to_be_admitted_like_any_request():
    world = World(backends=2, performance={"per_backend_inflight_limit": 1})
    blocker, client = world.request(), world.request()
    blocking, failing = world.connect(), world.connect()
    failing.fail()
    assert world.waiting == [], "the other backend is full, so the same one is tried, after a pause"
    world.runtime.sleep(0.03)
    again = world.connect()
    assert again.backend == failing.backend
    again.answer(200)
    blocking.answer(200)
    assert (blocker.status, client.status) == (200, 200)
    world.check_idle()


# --- hedging ----------------------------------------------------------------------------------
HEDGING = {"hedging": {"enabled": True, "delay_ms": 100}}


def test_what_a_retry_took_from_the_budget_is_given_back_when_it_finds_no_place():
    """Else the retries of an overload would leave none for those that could help."""
    world = World(
        backends=2,
        resilience={"retry_budget": {"min_retries": 1, "ratio_percent": 1}},
        performance={"per_backend_inflight_limit": 1, "inflight_acquire_wait_ms": 0},
    )
    for _ in range(3):
        client = world.request("POST")
        ask = world.waiting[0]
        other = world.upstream.backends[1 - ask.backend].stage.gate
        # Neither the other backend has room, nor, while others are quicker, the one that failed.
        assert other.try_enter(1)
        failed = world.upstream.backends[ask.backend].stage.gate
        world.refuse()
        assert failed.try_enter(1)
        world.runtime.sleep(1)
        assert client.status == 502
        assert world.waiting == []
        failed.leave()
        other.leave()
    assert world.counted("retry_budget_exhausted_total") == 0
    left = world.request("POST")
    world.refuse()
    world.connect().answer(200)
    assert left.status == 200, "one retry was left"
    spent = world.request("POST")
    world.refuse()
    assert (spent.status, world.counted("retry_budget_exhausted_total")) == (502, 1)
    world.check_idle()


def test_what_a_retry_took_is_given_back_when_the_client_leaves_before_it():
    world = World(backends=1, resilience={"retry_budget": {"min_retries": 1, "ratio_percent": 1}})
    client = world.request()
    world.refuse()
    client.handler.on_reset(reasons.CLIENT_RESET)
    again = world.request()
    world.refuse()
    world.runtime.sleep(1)
    world.connect().answer(200)
    assert again.status == 200
    world.check_idle()


def test_what_a_hedge_took_is_given_back_when_it_finds_no_place():
    world = World(
        backends=2,
        resilience={
            "hedging": {"enabled": True, "delay_ms": 100},
            "retry_budget": {"min_retries": 1, "ratio_percent": 1},
        },
        performance={"per_backend_inflight_limit": 1, "inflight_acquire_wait_ms": 0},
    )
    for has_room in (False, False, True):
        client = world.request()
        first = world.connect()
        other = world.upstream.backends[1 - first.backend].stage.gate
        if not has_room:
            assert other.try_enter(1)
        world.runtime.sleep(0.11)
        assert len(world.waiting) == has_room
        if has_room:
            world.connect().answer(200)
        else:
            other.leave()
            first.answer(200)
        assert client.status == 200
    assert world.counted("retry_budget_exhausted_total") == 0
    world.check_idle()


def test_a_slow_backend_is_hedged_and_the_first_answer_wins():
    world = World(resilience=HEDGING)
    client = world.request()
    slow = world.connect()
    world.runtime.sleep(0.09)
    assert world.waiting == []
    world.runtime.sleep(0.02)
    fast = world.connect()
    assert fast.backend != slow.backend
    fast.answer(200, b"fast", ends=False)
    assert slow.stream.was_reset is reasons.HEDGE_LOST
    gates = [each.stage.gate.active for each in world.upstream.backends]
    assert sum(gates) == 1 == gates[fast.backend], "the loser's place is free"
    fast.caller.on_data(b"er", True)
    assert client.body == b"faster"
    assert world.counted("hedges_total", outcome="won") == 1
    world.check_idle()


def test_a_hedge_is_given_up_when_the_first_backend_answers():
    world = World(resilience=HEDGING)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    hedge = world.connect()
    first.answer(200, b"first")
    assert hedge.stream.was_reset is reasons.HEDGE_LOST
    assert client.body == b"first"
    assert world.counted("hedges_total", outcome="lost") == 1
    late = CounterReader(world.counters.segment).read()["hedge_primary_late_seconds", ()]
    assert sum(late[:BUCKET_VALUES]) == 1
    world.check_idle()


def test_a_hedge_that_still_connects_is_given_up_too():
    world = World(resilience=HEDGING)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    assert len(world.waiting) == 1
    first.answer(200)
    assert (client.status, world.waiting) == (200, [])
    world.check_idle()


@pytest.mark.parametrize("which", ["first", "hedge"])
@pytest.mark.parametrize("how", ["reset", "answers 500", "breaks the protocol"])
def test_a_bad_answer_decides_nothing_while_the_other_may_be_better(which, how):
    world = World(resilience=HEDGING)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    hedge = world.connect()
    bad, good = (first, hedge) if which == "first" else (hedge, first)
    if how == "reset":
        bad.fail()
    elif how == "answers 500":
        bad.answer(500, b"bad")
    else:
        bad.caller.on_head([(b"nothing", b"x")], False)
    assert client.heads == []
    good.answer(200, b"good")
    assert (client.status, client.body) == (200, b"good")
    outcome = "won" if which == "first" else "failed"
    assert world.counted("hedges_total") == world.counted("hedges_total", outcome=outcome) == 1
    world.check_idle()


def test_a_bad_answer_is_passed_on_when_no_better_one_can_come():
    world = World(resilience=HEDGING)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    hedge = world.connect()
    first.answer(500, b"first")
    hedge.answer(500, b"second")
    assert (client.status, client.body) == (500, b"second")
    world.check_idle()


def test_when_both_fail_the_request_is_tried_again():
    world = World(resilience=HEDGING)
    client = world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    hedge = world.connect()
    first.fail()
    hedge.fail()
    third = world.connect()
    assert len({first.backend, hedge.backend, third.backend}) == 3
    third.answer(200)
    assert client.status == 200
    world.check_idle()


def test_both_are_given_up_when_the_client_leaves_or_time_is_over():
    world = World(resilience=HEDGING, performance={"backend_timeout_ms": 1_000})
    for leaves in (True, False):
        client = world.request()
        pair = [world.connect()]
        world.runtime.sleep(0.11)
        pair.append(world.connect())
        if leaves:
            client.handler.on_reset(reasons.CLIENT_RESET)
        else:
            world.runtime.sleep(2.0)
            assert client.status == 504
        assert all(upstream.stream.was_reset is not None for upstream in pair)
        world.check_idle()


@pytest.mark.parametrize(
    ("method", "body", "resilience", "backends"),
    [
        ("POST", None, HEDGING, 3),
        ("PUT", None, HEDGING, 3),
        ("GET", b"body", HEDGING, 3),
        ("GET", None, HEDGING, 1),
        ("GET", None, {**HEDGING, **NO_BUDGET}, 3),
        ("GET", None, {}, 3),
        ("HEAD", None, {"hedging": {**HEDGING["hedging"], "safe_methods": ["GET"]}}, 3),
    ],
)
def test_what_is_not_hedged(method, body, resilience, backends):
    world = World(backends=backends, resilience=resilience)
    client = world.request(method, body)
    upstream = world.connect()
    world.runtime.sleep(0.5)
    assert len(world.asked) == 1
    upstream.answer(200)
    assert client.status == 200
    world.check_idle()


def test_only_allowed_upstreams_are_hedged():
    hedging = {**HEDGING["hedging"], "route_allowlist": ["backend"]}
    world = World(resilience={"hedging": hedging})
    world.request()
    first = world.connect()
    world.runtime.sleep(0.11)
    assert len(world.waiting) == 1
    first.answer(200)
    world.check_idle()
    in_force = world.generation.configuration
    assert retry_policies._hedging(in_force, "backend", world.counters) is not None
    assert retry_policies._hedging(in_force, "other", world.counters) is None


def test_the_delay_is_read_where_responses_are_counted_though_counters_were_forgotten():
    hedging = {**HEDGING["hedging"], "delay_percentile": 90}
    world = World(resilience={"hedging": hedging})
    metric, counters = "upstream_first_byte_seconds", world.counters
    policy = retry_policies._hedging(world.generation.configuration, "backend", counters)
    assert policy.delay.seconds(1.0) == 0.1, "nothing was seen yet"
    counters.forget(lambda name: name.metric != metric)
    for upstream, seconds in (("other", 7.0), ("backend", 0.02)):
        histogram = counters.histogram(metric, {"upstream": upstream})
        for _ in range(100):
            histogram.observe(seconds)
    assert policy.delay.seconds(1.0 + KEPT_SECONDS) < 0.03


def test_the_delay_follows_what_responses_took_lately():
    world = World(resilience={"hedging": {**HEDGING["hedging"], "delay_percentile": 90}})
    for _ in range(100):
        world.request()
        upstream = world.connect()
        world.runtime.sleep(0.02)
        upstream.answer(200)
    world.request()
    first = world.connect()
    world.runtime.sleep(0.03)
    assert len(world.waiting) == 1, "sooner than delay_ms"
    first.answer(200)
    world.check_idle()


def test_what_is_hedged_at_once_stays_within_the_budget():
    world = World(resilience={**HEDGING, "retry_budget": {"ratio_percent": 10, "min_retries": 0}})
    clients = [world.request() for _ in range(100)]
    upstreams = [world.connect() for _ in clients]
    world.runtime.sleep(0.11)
    assert len(world.waiting) == 10
    for upstream in upstreams:
        upstream.answer(200)
    world.check_idle()


# --- whatever happens -------------------------------------------------------------------------
ACTIONS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(["GET", "PUT", "POST"]), st.integers(0, 40)),
    st.tuples(st.just("connect"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("refuse"), st.integers(0, 5), st.none()),
    st.tuples(st.just("answer"), st.integers(0, 5), st.sampled_from([200, 404, 500, 503])),
    st.tuples(st.just("begin"), st.integers(0, 5), st.sampled_from([200, 503])),
    st.tuples(st.just("fail"), st.integers(0, 5), st.sampled_from([LOST, RESET, REFUSED])),
    st.tuples(st.just("send"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("stall"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("leave"), st.integers(0, 5), st.none()),
    st.tuples(st.just("sleep"), st.sampled_from([0.01, 0.06, 0.2, 1.2]), st.none()),
)  # fmt: skip


class Player:
    """Does what it is told in a world, as far as that can be done."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients = []
        self.sending = set()
        self.upstreams = []

    def play(self, what, which, how):
        getattr(self, what)(which, how)

    def request(self, method, length):
        body = b"x" * length if length else None
        ends = length % 3 != 0
        client = self.world.request(method, body, ends=ends)
        self.clients.append(client)
        if body is not None and not ends:
            self.sending.add(client)

    def connect(self, which, reused):
        if self.world.waiting:
            self.upstreams.append(self.world.connect(reused, which % len(self.world.waiting)))

    def refuse(self, which, _):
        if self.world.waiting:
            self.world.refuse(which=which % len(self.world.waiting))

    def _live(self, which):
        live = [upstream for upstream in self.upstreams if upstream.is_live]
        return live[which % len(live)] if live else None

    def answer(self, which, status):
        upstream = self._live(which)
        if upstream is not None and not getattr(upstream, "begun", False):
            upstream.answer(status, b"body" if status == 503 else b"")

    def begin(self, which, status):
        upstream = self._live(which)
        if upstream is not None and not getattr(upstream, "begun", False):
            upstream.begun = True
            upstream.answer(status, b"begin", ends=False)

    def fail(self, which, reason):
        upstream = self._live(which)
        if upstream is not None:
            upstream.fail(reason)

    def send(self, which, end):
        sending = [c for c in self.clients if c in self.sending and not c.is_over]
        if sending:
            client = sending[which % len(sending)]
            if end:
                self.sending.discard(client)
            client.handler.on_data(b"more", end)

    def stall(self, which, accepts):
        upstream = self._live(which)
        if upstream is not None:
            upstream.stream.accepts = accepts
            if accepts:
                upstream.caller.on_writable()

    def leave(self, which, _):
        live = [client for client in self.clients if not client.is_over]
        if live:
            client = live[which % len(live)]
            client.was_reset = reasons.CLIENT_RESET
            client.handler.on_reset(reasons.CLIENT_RESET)

    def sleep(self, seconds, _):
        self.world.runtime.sleep(seconds)


@given(st.lists(ACTIONS, max_size=60), st.booleans())
def test_whatever_happens_places_and_bytes_are_given_back(actions, generous):
    resilience = {
        **HEDGING,
        "retry": {
            "conditions": [
                "connect_failure", "refused_stream", "reset_before_head", "status", "timeout"
            ],
            "per_try_timeout_ms": 500, "body_max_bytes": 30, "tries": 2,
        },
    }  # fmt: skip
    if generous:
        resilience["retry_budget"] = {"min_retries": 1_000}
    world = World(
        resilience=resilience,
        performance={
            "per_backend_inflight_limit": 3, "inflight_acquire_wait_ms": 100,
            "global_inflight_limit": 6, "retry_buffer_global_cap_bytes": 50,
        },
    )  # fmt: skip
    player = Player(world)
    for action in actions:
        player.play(*action)
        assert world.service.kept.total <= 50
    for client in player.clients:
        assert client.credited <= 40 + 4 * len(actions)
    while any(not client.is_over for client in player.clients):
        player.leave(0, None)
    world.check_idle()
