"""After which failures a request is tried again, how often, and after what pause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core import reasons
from spooky._core.reasons import TABLE, Retry, Stage
from spooky.overload.retry import Allowance, RetryPolicy, Verdict, retry_after_seconds

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
DEFAULT = {
    "conditions": frozenset({Retry.CONNECT, Retry.REFUSED, Retry.RESET, Retry.STATUS}),
    "connect_tries": 2,
    "tries": 1,
    "methods": IDEMPOTENT,
    "statuses": frozenset({503}),
    "try_timeout": None,
    "backoff_base": 0.025,
    "backoff_max": 0.25,
    "body_max": 65_536,
    "body_places_max": 1 << 20,
    "budget": None,
    "hedging": None,
}


def policy(**changed) -> RetryPolicy:
    return RetryPolicy(**{**DEFAULT, **changed})


def judge(reason, method=b"GET", begun=False, replayable=True, allowance=None, **changed):
    allowance = allowance or Allowance()
    return allowance.judge(policy(**changed), reason, method, begun=begun, replayable=replayable)


@pytest.mark.parametrize("reason", TABLE, ids=lambda reason: reason.code)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_the_table_of_reasons_decides_and_nothing_else(reason, method):
    allowed = judge(reason, method) is Verdict.ALLOWED
    if reason.retryable in (Retry.CONNECT, Retry.REFUSED):
        assert allowed
    elif reason.retryable in (Retry.RESET, Retry.STATUS):
        assert allowed is (method == b"GET")
    else:
        assert not allowed


def test_only_failures_of_backends_are_tried_again():
    for reason in TABLE:
        if reason.retryable not in (Retry.NEVER, Retry.ADMISSION):
            assert reason.stage in (Stage.CONNECT, Stage.REQUEST, Stage.RESPONSE)
            assert reason.fault is reasons.Fault.UPSTREAM
            assert reason.status >= 500, "whoever fails after the last try has an answer"


def test_a_condition_that_is_not_configured_allows_nothing():
    assert judge(reasons.CONNECT_REFUSED, conditions=frozenset()) is Verdict.CONDITION
    assert judge(reasons.UPSTREAM_HEAD_TIMEOUT) is Verdict.CONDITION
    timeout = frozenset({Retry.TIMEOUT})
    assert judge(reasons.UPSTREAM_HEAD_TIMEOUT, conditions=timeout) is Verdict.ALLOWED
    assert judge(reasons.UPSTREAM_HEAD_TIMEOUT, b"POST", conditions=timeout) is Verdict.METHOD


def test_nothing_is_tried_again_once_the_client_was_sent_something():
    assert judge(reasons.UPSTREAM_REFUSED, begun=True) is Verdict.BEGUN


def test_a_body_that_was_sent_and_not_kept_is_not_sent_again():
    assert judge(reasons.UPSTREAM_REFUSED, replayable=False) is Verdict.BODY


def test_a_method_of_the_configuration_may_be_sent_again():
    assert judge(reasons.UPSTREAM_RESET, b"POST") is Verdict.METHOD
    assert judge(reasons.UPSTREAM_RESET, b"POST", methods=frozenset({b"POST"})) is Verdict.ALLOWED


def test_tries_after_failures_to_connect_are_counted_apart():
    allowance = Allowance()
    granted = []
    for reason in (reasons.CONNECT_REFUSED,) * 4 + (reasons.UPSTREAM_RESET,) * 2:
        verdict = judge(reason, allowance=allowance)
        granted.append(verdict is Verdict.ALLOWED)
        if granted[-1]:
            allowance.take(reason)
    assert granted == [True, True, False, False, True, False]


@given(st.integers(0, 10), st.floats(0, 1))
def test_a_pause_is_random_grows_and_has_a_bound(returns, chance):
    pause = policy().backoff(returns, chance)
    assert 0 <= pause <= min(0.025 * 2**returns, 0.25)
    assert pause == policy().backoff(returns, 1.0) * chance


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b"9" * 400, 999_999_999.0),
        (b"Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        (b"Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        (b"-1", 0.0),
        (b"soon", 0.0),
        (b"Sun, 06 Nov 99999999999 08:49:37 GMT", 0.0),
        (b"\xff", 0.0),
        (b"", 0.0),
    ],
)
def test_how_long_a_backend_asks_to_be_left_alone(value, seconds):
    assert retry_after_seconds([(b"date", b"x"), (b"retry-after", value)], 100.0) == seconds


def test_who_asks_for_nothing_is_not_left_alone():
    assert retry_after_seconds([(b":status", b"503")], 100.0) == 0.0


@given(st.binary(max_size=40))
def test_no_retry_after_is_too_strange(value):
    assert retry_after_seconds([(b"retry-after", value)], 100.0) >= 0.0
