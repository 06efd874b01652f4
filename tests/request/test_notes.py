"""What is noted of a request that took an unusual course."""

import pytest

from spooky._core import reasons
from spooky.observe.decisions import NoteKind, _notes
from spooky.request.exchange import EXCLUDED_NOTES_MAX
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
            {NoteKind.HEDGE_BEGAN, NoteKind.TRY_ENDED},
            {NoteKind.REFUSED, NoteKind.EXCLUDED},
        ]
        if kept
        else [set()] * 3
    )
    world.check_idle()


@pytest.mark.parametrize("out", [EXCLUDED_NOTES_MAX - 1, EXCLUDED_NOTES_MAX + 3])
def test_the_first_backends_that_are_out_are_noted(out):
    world = World(backends=EXCLUDED_NOTES_MAX + 4)
    world.service.keep_decisions(1 << 20)
    for number in range(out):
        world.upstream.balancer.set_eligible(number, False)
    client = world.request()
    assert kinds(client) == [NoteKind.EXCLUDED] * min(out, EXCLUDED_NOTES_MAX)
    world.connect().answer(200)
    assert client.status == 200
    world.check_idle()
