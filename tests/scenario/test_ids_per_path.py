"""No two addresses of a client are sent to under one connection ID (RFC 9000 section 9.5)."""

from typing import Any

import pytest

from spooky.protocol.quic.engines import AIOQUIC, Engine, Feature
from spooky.protocol.quic.session import Address, Datagram
from tests.protocol.quic.forge import new_connection_id, packet
from tests.scenario.endpoints import Scenario
from tests.scenario.frames import FrameType
from tests.simnet import CLIENT, SERVER, Link

pytestmark = pytest.mark.needs(Feature.ID_PER_PATH, of="server")

HOME = CLIENT
ELSEWHERE: Address = ("203.0.113.7", 4433)
PING = b"\x01"
PATH_CHALLENGE, PATH_RESPONSE = b"\x1aasked it", b"\x1b"
PROBE_SECONDS = 15
"""Longer than an address is asked for that does not answer."""


def begin(engine: Engine, ids: int | None = None) -> Scenario:
    """A client on aioquic that gives its server so many connection IDs, if it is said."""
    pair = Scenario((AIOQUIC, engine))
    client: Any = pair.client
    if ids is not None:
        replenish = client._quic._replenish_connection_ids

        def give_few() -> None:
            client._quic._remote_active_connection_id_limit = ids
            replenish()

        client._quic._replenish_connection_ids = give_few
    return pair.handshake()


def use_another_id(pair: Scenario) -> None:
    """Let what the client says from now on go to another connection ID of the server."""
    client: Any = pair.client
    client._quic.change_connection_id()


def say(pair: Scenario, frames: bytes, source: Address) -> dict[Address, set[bytes]]:
    """Say something from an address; return which IDs the server's answers carry, by address."""
    filled = packet(pair, frames + bytes(1100))
    pair.server.receive([Datagram(filled, source)], pair.network.now)
    pair.server.ping()
    carried: dict[Address, set[bytes]] = {}
    for run in pair.server.flush(pair.network.now):
        pair.network.sent.append((pair.network.now, SERVER, run.destination, run.payload))
        # No datagram of these is larger than what every path carries.
        first = run.payload[: run.segment_size or None]
        carried.setdefault(run.destination, set()).add(first[1:9])
    return carried


def test_a_probe_is_answered_under_an_id_of_its_own(engine: Engine) -> None:
    pair = begin(engine)
    home = say(pair, PING, HOME)[HOME]
    use_another_id(pair)
    probed = say(pair, PATH_CHALLENGE, ELSEWHERE)
    assert len(home) == len(probed[ELSEWHERE]) == 1
    assert probed == {ELSEWHERE: probed[ELSEWHERE], HOME: home}
    assert home.isdisjoint(probed[ELSEWHERE])
    # It moves there: both are asked, each under its own.
    assert say(pair, PING, ELSEWHERE) == probed
    assert pair.server.peer == ELSEWHERE


def test_the_address_left_is_asked_under_the_id_it_knows(engine: Engine) -> None:
    pair = begin(engine)
    home = say(pair, PING, HOME)[HOME]
    use_another_id(pair)
    moved = say(pair, PING, ELSEWHERE)
    assert moved[HOME] == home
    assert len(moved[ELSEWHERE]) == 1
    assert home.isdisjoint(moved[ELSEWHERE])
    # And it comes back.
    assert say(pair, PING, HOME)[HOME] == home


def test_a_client_whose_nat_forgot_it_keeps_its_id(engine: Engine) -> None:
    """One that does not know that it moved uses the ID it used: there is nothing to hide."""
    pair = begin(engine)
    home = say(pair, PING, HOME)[HOME]
    moved = say(pair, PING, ELSEWHERE)
    assert moved == {ELSEWHERE: home, HOME: home}
    # No ID was used up.
    use_another_id(pair)
    assert say(pair, PING, ("203.0.113.8", 1))[("203.0.113.8", 1)].isdisjoint(home)


def test_a_client_that_gave_no_id_is_answered_once_it_gives_one(engine: Engine) -> None:
    """Who has none left cannot answer an attempt to move, nor a probe."""
    pair = begin(engine, ids=1)
    home = say(pair, PING, HOME)
    use_another_id(pair)
    assert say(pair, PATH_CHALLENGE, ELSEWHERE) == home
    assert say(pair, PING, ELSEWHERE) == home
    assert pair.server.peer == HOME
    given = new_connection_id(1, 0)
    moved = say(pair, given + PING, ELSEWHERE)
    assert moved[ELSEWHERE] == {given[4:12]}
    assert moved[HOME] == home[HOME]
    assert pair.server.peer == ELSEWHERE


@pytest.mark.parametrize("ids", [2, 4])
def test_ids_of_addresses_left_are_replaced(engine: Engine, ids: int) -> None:
    """However few a client gives at a time, it can move on."""
    pair = begin(engine, ids)
    used: list[set[bytes]] = []
    for number in range(6):
        address = ("203.0.113.7", 1000 + number)
        pair.network.rebind(pair.client_host, address)
        pair.client.probe_path()
        pair.download(2000, seed=number)
        assert pair.server.peer == address
        sent = pair.packets(from_server=True)
        used.append({p.destination_connection_id for p in sent if p.destination == address})
    assert sum(map(len, used)) == len(set[bytes]().union(*used))
    pair.run(seconds=PROBE_SECONDS)
    retired = {
        frame.numbers[0]
        for each in pair.packets(from_server=True)
        for frame in each.frames
        if frame.type is FrameType.RETIRE_CONNECTION_ID
    }
    assert retired == {*range(6)}


def test_addresses_probed_and_not_used_leave_an_id_for_the_next(engine: Engine) -> None:
    pair = begin(engine, ids=3)
    client: Any = pair.client
    used = [say(pair, PING, HOME)[HOME]]
    for number in range(2):
        use_another_id(pair)
        address = ("203.0.113.7", 1000 + number)
        used.append(say(pair, PATH_CHALLENGE, address)[address])
    # It got another of the client's for the first of these.
    given = new_connection_id(client._quic._host_cid_seq, 0)
    use_another_id(pair)
    moved = say(pair, given + PING, ELSEWHERE)
    assert len({next(iter(ids)) for ids in (*used, moved[ELSEWHERE])}) == 4


def test_an_address_that_a_nat_chose_for_one_probed_is_answered_under_its_id(
    engine: Engine,
) -> None:
    """The client itself uses one ID of the server for both: there is nothing to hide."""
    pair = begin(engine, ids=2)
    home = say(pair, PING, HOME)[HOME]
    use_another_id(pair)
    probed = say(pair, PATH_CHALLENGE, ELSEWHERE)[ELSEWHERE]
    moved = say(pair, PING, (ELSEWHERE[0], 1))
    assert moved == {(ELSEWHERE[0], 1): probed, HOME: home}


def test_a_client_whose_packet_another_sent_on_is_answered_whatever_id_it_uses(
    engine: Engine,
) -> None:
    """One that gave no ID to spare goes on where it is, under that which it knows there."""
    pair = begin(engine, ids=1)
    home = say(pair, PING, HOME)[HOME]
    say(pair, PING, ELSEWHERE)
    assert pair.server.peer == ELSEWHERE
    use_another_id(pair)
    assert say(pair, PING, HOME)[HOME] == home
    assert pair.server.peer == HOME


def test_who_answers_from_an_address_it_probed_and_goes_there_is_followed(engine: Engine) -> None:
    """The address that a packet came from is not given up for want of an ID."""
    pair = begin(engine, ids=2)
    there, probed = ("203.0.113.7", 1), ("203.0.113.7", 2)
    say(pair, PING, there)
    use_another_id(pair)
    say(pair, PATH_CHALLENGE, probed)
    asked = [
        frame.data
        for each in pair.packets(from_server=True)
        for frame in each.frames
        if each.destination == there and frame.type is FrameType.PATH_CHALLENGE
    ]
    say(pair, PATH_RESPONSE + asked[-1] + PING, probed)
    assert not pair.server_handler.closes
    assert pair.server.peer == probed


def test_a_proven_address_is_not_given_up_for_one_that_is_not(engine: Engine) -> None:
    """RFC 9000 section 9.3.2: who was never where its packet came from is served as before."""
    pair = begin(engine, ids=2)
    use_another_id(pair)
    say(pair, PING, ELSEWHERE)
    assert pair.server.peer == ELSEWHERE
    use_another_id(pair)
    say(pair, PATH_CHALLENGE, ("203.0.113.8", 1))
    now, end = pair.network.now, pair.network.now + PROBE_SECONDS
    while (due := pair.server.deadline()) is not None and due < end:
        now = max(now, due)
        pair.server.expire(now)
        pair.server.flush(now)
    assert pair.server.peer == HOME
    assert not pair.server_handler.closes


def test_an_id_retired_by_its_issuer_is_replaced_on_every_path(engine: Engine) -> None:
    """RFC 9000 section 5.1.2."""
    pair = begin(engine)
    home = say(pair, PING, HOME)[HOME]
    use_another_id(pair)
    there = say(pair, PATH_CHALLENGE, ELSEWHERE)[ELSEWHERE]
    fresh = b"".join(new_connection_id(number, 4) for number in (4, 5, 6))
    after = say(pair, fresh + PATH_CHALLENGE, ELSEWHERE)
    assert after[HOME].isdisjoint(home | there)
    assert after[ELSEWHERE].isdisjoint(home | there | after[HOME])


def move(pair: Scenario, address: Address, seconds: float = 1.0) -> None:
    """Let the client go on from another address, under another ID of the server."""
    use_another_id(pair)
    pair.network.rebind(pair.client_host, address)
    pair.client.ping()
    pair.run(seconds=seconds)


def test_a_client_that_comes_back_is_asked_anew_and_stays(engine: Engine) -> None:
    """What was asked at its first address while it was away is not held against it there."""
    pair = Scenario((AIOQUIC, engine), link=Link(latency=0.05)).handshake()
    pair.run(seconds=1)
    move(pair, ELSEWHERE)
    for _ in range(26):
        pair.client.ping()
        pair.run(seconds=0.25)
    move(pair, HOME)
    for _ in range(PROBE_SECONDS):
        pair.run(seconds=1)
        assert pair.server.peer == HOME


def test_a_client_is_followed_also_where_paths_shared_an_id(engine: Engine) -> None:
    """One that is given up frees none, if the current path, or another, goes on with it."""
    pair = Scenario((AIOQUIC, engine), link=Link(latency=0.05)).handshake()
    pair.run(seconds=1)
    say(pair, PATH_CHALLENGE, ELSEWHERE)
    pair.run(seconds=1)
    for port in (1, 2):
        move(pair, ("198.51.100.9", port))
    use_another_id(pair)
    say(pair, PATH_CHALLENGE, ("203.0.113.7", 6000))
    pair.run(seconds=1)
    move(pair, ("198.51.100.9", 3))
    assert pair.server.peer == ("198.51.100.9", 3)


def retired(pair: Scenario) -> set[int]:
    """Return which of the client's IDs the server gave back."""
    return {
        frame.numbers[0]
        for each in pair.packets(from_server=True)
        for frame in each.frames
        if frame.type is FrameType.RETIRE_CONNECTION_ID
    }


def test_a_client_with_few_ids_that_probed_one_address_moves_to_another(engine: Engine) -> None:
    """What was probed and not used is forgotten, as long as its ID can be given back."""
    pair = begin(engine, ids=2)
    pair.run(seconds=0.1)
    use_another_id(pair)
    say(pair, PATH_CHALLENGE, ELSEWHERE)
    pair.run(seconds=PROBE_SECONDS)
    assert retired(pair) == {1}
    # From where it was before nothing comes and nothing gets there, from one moment to the next.
    address = ("203.0.113.8", 1)
    use_another_id(pair)
    pair.network.rebind(pair.client_host, address)
    pair.client.ping()
    pair.download(2000)
    assert pair.server.peer == address


def test_what_is_probed_again_and_again_is_kept(engine: Engine) -> None:
    pair = begin(engine)
    pair.run(seconds=0.1)
    use_another_id(pair)
    first = say(pair, PATH_CHALLENGE, ELSEWHERE)[ELSEWHERE]
    for _ in range(5):
        pair.run(seconds=5)
        assert say(pair, PATH_CHALLENGE, ELSEWHERE)[ELSEWHERE] == first
    assert not retired(pair)
