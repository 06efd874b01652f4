"""0-RTT in TLS: once, fresh, at any worker, within what was promised (RFC 8446 section 8)."""

import dataclasses
import datetime
import time
from typing import Any

import pytest
from aioquic import tls
from aioquic.tls import SessionTicket

from spooky import _core
from spooky._core.quic.errors import TlsAlert
from spooky._core.shared import Segment
from spooky.observe.segment import create_segment, open_segment, private_segment
from spooky.protocol.quic.early_data import AGE_TOLERANCE, REGISTER_SECONDS, EarlyData
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.packet import VERSION_2
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.tls_endpoint import APPLICATION, EARLY, HANDSHAKE
from tests.certificates import now
from tests.protocol.quic.support import client_parameters, server_parameters
from tests.protocol.quic.tls_support import (
    Native,
    exchange,
    mirrored,
    native_client,
    native_server,
)

pytestmark = pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")

KEYS = Keys(1, bytes(range(32)), (), bytes(32))
LIMITS = (1000, 100, 10)


@pytest.fixture
def register() -> Segment:
    return private_segment()


def shake_hands(
    early: EarlyData | None,
    ticket: SessionTicket | None,
    wall_clock: Any = time.time,
    **client: Any,
) -> tuple[Native, Native, list[SessionTicket]]:
    """Make a client that sends 0-RTT data if it may shake hands."""
    tickets: list[SessionTicket] = []
    sides = (
        native_client(
            client_parameters(
                **{"ticket": ticket, "early_data": True, "on_ticket": tickets.append} | client
            )
        ),
        native_server(
            server_parameters(
                tickets=TicketStore(), keys=KEYS, early_data=early, wall_clock=wall_clock
            )
        ),
    )
    exchange(*sides)
    assert sides[0].completed == sides[1].completed == 1
    assert sides[0].tls.early_data is sides[1].tls.early_data
    return *sides, tickets


def ticket_of(early: EarlyData | None) -> SessionTicket:
    _, server, (ticket,) = shake_hands(early, None)
    assert server.tls.early_data is None
    return ticket


def taken(early: EarlyData | None, ticket: SessionTicket, **more: Any) -> bool | None:
    """Offer 0-RTT data; the session is resumed in any case."""
    _, server, _ = shake_hands(early, ticket, **more)
    assert server.tls.resumed
    return server.tls.early_data


def test_both_sides_agree_on_the_secret(register: Segment) -> None:
    """RFC 8446 section 7.1; it comes first, as the server may have data of that level already."""
    early = EarlyData(register, LIMITS)
    client, server, _ = shake_hands(early, ticket_of(early))
    assert server.tls.early_data is True
    assert [secret[:2] for secret in server.secrets] == [
        (False, EARLY),
        (True, HANDSHAKE),
        (False, HANDSHAKE),
        (True, APPLICATION),
        (False, APPLICATION),
    ]
    assert mirrored(client.secrets) == {*server.secrets}


def test_a_ticket_says_that_it_may_be_used_for_it(register: Segment) -> None:
    """RFC 9001 section 4.6.1."""
    assert ticket_of(EarlyData(register, LIMITS)).max_early_data_size == 0xFFFFFFFF
    assert ticket_of(None).max_early_data_size is None


def test_a_ticket_serves_for_it_once(register: Segment) -> None:
    """RFC 8446 section 8.1; it still resumes."""
    early = EarlyData(register, LIMITS)
    ticket = ticket_of(early)
    assert [taken(early, ticket) for _ in range(3)] == [True, False, False]


def test_without_a_register_that_remembers_a_replay_is_taken() -> None:
    """Attack 23: it is the register that stops who recorded a client's first packets."""

    class Forgetful:
        register_id = 1

        def strike(self, key: int, now: int, keep: int) -> bool:
            return True

    early = EarlyData(Forgetful(), LIMITS)
    ticket = ticket_of(early)
    assert [taken(early, ticket) for _ in range(3)] == [True, True, True]


def test_a_ticket_serves_for_it_at_one_worker() -> None:
    first, descriptor = create_segment(2)
    second = open_segment(descriptor)
    ticket = ticket_of(EarlyData(first, LIMITS))
    assert taken(EarlyData(second, LIMITS), ticket) is True
    assert taken(EarlyData(first, LIMITS), ticket) is False


def test_the_next_ticket_serves_for_it_too(register: Segment) -> None:
    early = EarlyData(register, LIMITS)
    _, _, (following,) = shake_hands(early, ticket_of(early))
    assert taken(early, following) is True


def test_a_ticket_of_another_process_does_not_serve_for_it(register: Segment) -> None:
    """It may have been used there, and the keys may be the same."""
    ticket = ticket_of(EarlyData(register, LIMITS))
    assert taken(EarlyData(private_segment(), LIMITS), ticket) is False
    assert taken(EarlyData(register, LIMITS), ticket) is True


def test_a_ticket_given_while_it_was_off_does_not_serve_for_it(register: Segment) -> None:
    bold = dataclasses.replace(ticket_of(None), max_early_data_size=0xFFFFFFFF)
    assert taken(EarlyData(register, LIMITS), bold) is False


def test_none_is_taken_while_it_is_off(register: Segment) -> None:
    ticket = ticket_of(EarlyData(register, LIMITS))
    assert taken(None, ticket) is False


def test_none_is_offered_by_a_client_that_must_not(register: Segment) -> None:
    early = EarlyData(register, LIMITS)
    assert taken(early, ticket_of(early), early_data=False) is None


@pytest.mark.parametrize(
    ("seconds", "fresh"), [(-11, False), (-9, True), (0, True), (9, True), (11, False)]
)
def test_a_hello_is_taken_while_it_is_fresh(register: Segment, seconds: int, fresh: bool) -> None:
    """RFC 8446 section 8.3: it is as old as its ticket's age says, within ten seconds."""
    early = EarlyData(register, LIMITS)
    ticket = ticket_of(early)
    age = datetime.timedelta(hours=5)
    ticket = dataclasses.replace(ticket, not_valid_before=ticket.not_valid_before - age)
    shifted = age + datetime.timedelta(seconds=seconds)
    assert taken(early, ticket, wall_clock=lambda: (now() + shifted).timestamp()) is fresh


def test_what_the_register_forgets_is_not_fresh_any_more() -> None:
    assert REGISTER_SECONDS > 2 * AGE_TOLERANCE


@pytest.mark.parametrize(
    ("limits", "accepted"),
    [
        ((1000, 100, 10), True),
        ((2000, 100, 11), True),
        ((1000, 99, 10), False),
        ((2000, 200, 9), False),
        ((1000, 100), False),
        ((1000, 100, 10, 1), False),
    ],
)
def test_no_limit_is_lower_than_the_client_was_promised(
    register: Segment, limits: tuple[int, ...], accepted: bool
) -> None:
    """RFC 9000 section 7.4.1, RFC 9114 section 7.2.4.2."""
    ticket = ticket_of(EarlyData(register, LIMITS))
    assert taken(EarlyData(register, limits), ticket) is accepted


def test_none_is_taken_after_a_change_of_version(
    register: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets are in the version that the client began with (RFC 9369 section 4.1)."""
    early = EarlyData(register, LIMITS)
    ticket = ticket_of(early)
    monkeypatch.setattr(Native, "original_version", VERSION_2)
    assert taken(early, ticket) is False


def test_who_only_saw_a_ticket_cannot_use_it_up(register: Segment) -> None:
    early = EarlyData(register, LIMITS)
    ticket = ticket_of(early)
    with pytest.raises(TlsAlert) as caught:
        taken(early, dataclasses.replace(ticket, resumption_secret=bytes(32)))
    assert caught.value.alert == tls.AlertDescription.decrypt_error
    assert taken(early, ticket) is True


def test_a_full_register_refuses_it_and_not_the_handshake(register: Segment) -> None:
    early = EarlyData(register, LIMITS)
    ticket = ticket_of(early)
    key = int.from_bytes(ticket.ticket[:8], "big")
    seconds = int(now().timestamp())
    for n in range(8):
        assert register.strike((key ^ (n + 1) << 40), seconds, REGISTER_SECONDS)
    assert taken(early, ticket) is False
