"""Whoever is shed is told when to come back, for whichever reason."""

import pytest

from spooky._core.reasons import TABLE, Fault, Reason
from spooky.request.answer import answer_fields

UNAVAILABLE = [reason for reason in TABLE if reason.status == 503]

NOT_SHED = {"upstream_status", "response_too_large"}
"""A backend said so itself, and the same request would fail again."""


@pytest.mark.parametrize("reason", UNAVAILABLE, ids=lambda reason: reason.code)
def test_every_shed_says_why_and_when_to_come_back(reason: Reason) -> None:
    fields, body = answer_fields(reason, (), retry_after=7)
    assert fields[0] == (b":status", b"503")
    assert body == reason.text.encode() + b"\n"
    assert ((b"retry-after", b"7") in fields) is (reason.code not in NOT_SHED)


def test_what_a_client_did_wrong_is_no_shed() -> None:
    for reason in TABLE:
        if reason.fault is Fault.CLIENT:
            assert b"retry-after" not in dict(answer_fields(reason, ())[0]), reason
