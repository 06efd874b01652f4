"""Whose the sockets of listeners are that come, go, come back and are handed over."""

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spooky._core import COMPILED
from spooky.config import from_mapping
from spooky.config.performance import Performance
from spooky.control.candidate import Candidate
from spooky.control.change import NextGeneration, PrepareError, Step
from spooky.control.files_seen import FilesSeen
from spooky.control.heir import Heir
from spooky.control.history import History, Record, Source
from spooky.control.listeners import Listeners
from spooky.control.slots import Slots
from spooky.control.sockets import ListenerSockets
from spooky.control.supervisor import Supervisor
from spooky.control.takeover import TakeOver, decode_from_old, encode
from spooky.control.upgrade import UpgradeError
from spooky.edge import turning_away
from spooky.edge.listener_numbers import ListenerIdentity, listener_identities
from spooky.generation.materials import Materials
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering
from tests.support.half_open import hold_back, let_through
from tests.support.ports import free_port
from tests.support.proxy import run
from tests.support.waiting import PATIENCE_SECONDS, refuses, until


def configured(*ports: int, address: str = "127.0.0.1") -> Any:
    return from_mapping(
        {
            "listeners": [
                {"address": address, "port": port, "tls": {"cert": "c", "key": "k"}}
                for port in ports
            ],
            "upstream": {
                "api": {
                    "route": {"path_prefix": "/"},
                    "backends": [{"id": "one", "address": "http://127.0.0.1:1"}],
                }
            },
        }
    )


async def prepared(listeners: Listeners, *ports: int, address: str = "127.0.0.1") -> Step:
    configuration = configured(*ports, address=address)
    candidate = cast(Candidate, SimpleNamespace(configuration=configuration))
    return await listeners.prepare(NextGeneration(2, candidate, rolling=False))


async def change(listeners: Listeners, *ports: int, address: str = "127.0.0.1") -> None:
    step = await prepared(listeners, *ports, address=address)
    step.check()
    step.commit()


def identity_of(port: int) -> ListenerIdentity:
    return listener_identities(configured(port).active_listeners)[0]


def inodes(sockets: ListenerSockets) -> list[int]:
    return [os.fstat(udp.fileno()).st_ino for udp in sockets.udp]


class Inheriting:
    """What another program left, as an heir has it."""

    def __init__(self, listeners: Listeners) -> None:
        nothing: Any = SimpleNamespace(
            _listeners=listeners,
            _slots=listeners._slots,
            _keys=SimpleNamespace(current=Keys.generate()),
            _segment_file=0,
            _crew=SimpleNamespace(inboxes=dict),
            _metrics=SimpleNamespace(descriptors={}),
            _control=None,
            _admin=None,
            _changes=SimpleNamespace(
                record=Record(
                    number=1, time=0.0, source=Source.START, path="", text="", files={}, origin=1,
                    requested_by="",
                ),
                running=SimpleNamespace(materials=Materials({}, b"")),
                source="",
                seen=FilesSeen(b""),
                history=History(None, 1),
            ),
        )  # fmt: skip
        take_over, self._descriptors = Supervisor.inheritance(nothing)
        self.data = encode(take_over)
        left = decode_from_old(self.data)
        assert isinstance(left, TakeOver)
        self.left = left
        self.slots = (0, 1)

    def take(self, name: str) -> socket.socket | None:
        descriptor = self._descriptors.pop(name, None)
        return None if descriptor is None else socket.socket(fileno=os.dup(descriptor))


@pytest.mark.skipif(not COMPILED, reason="the twin serves one worker, and none takes over")
def test_what_drains_is_brought_back_in_order_also_by_a_program_that_takes_over() -> None:
    """The kernel knows slots by the order of sockets: others beside them would mix them up."""
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        old = Listeners(Slots(2))
        old.open(configured(stays, goes))
        number = list(old.numbers.values())[1]
        before = inodes(old._sockets[number])
        for _ in range(2):
            await change(old, stays)
            await until(lambda: refuses(goes))
            await change(old, stays, goes)
            assert list(old.numbers.values())[1] == number
            assert inodes(old._sockets[number]) == before
            socket.create_connection(("127.0.0.1", goes)).close()
        await change(old, stays)

        new = Listeners(Slots(2, Steering((0, 1))))
        new.inherit(cast(Heir, Inheriting(old)), Performance())
        assert list(new.numbers.values()) == [0]
        # As when the first workers have finished.
        old.close()
        await change(new, stays, goes)
        assert list(new.numbers.values())[1] == number
        sockets = new._sockets[number]
        assert inodes(sockets)[:2] == before
        assert len(sockets.udp) == 4
        # An Initial goes to a slot of the new program's.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for first in range(0, 256, 5):
                hello = b"\xc3\0\0\0\1\x08" + bytes((first,)) + bytes(27)
                client.sendto(hello, ("127.0.0.1", goes))
        arrived = [0, 0, 0, 0]
        for slot, udp in enumerate(sockets.udp):
            while True:
                try:
                    udp.recv(2000)
                except BlockingIOError:
                    break
                arrived[slot] += 1
        assert sum(arrived) == len(range(0, 256, 5))
        # Those of the slots that leave may reach who leaves, by the byte that names it.
        assert arrived[0] + arrived[1] <= 2
        assert min(arrived[2:]) > 0
        new.close()

    run(scenario)


async def accepted_from(listening: socket.socket) -> socket.socket:
    """Return the next connection when there is one."""
    loop = asyncio.get_running_loop()
    connection, _ = await asyncio.wait_for(loop.sock_accept(listening), PATIENCE_SECONDS)
    return connection


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"], ids=["none", "any-ipv4", "any"])
def test_who_was_let_in_before_the_commit_is_accepted_and_nobody_else(address: str) -> None:
    """One who waits to be accepted, and one whose end of the handshake is still on the way."""
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        listeners = Listeners(Slots(1))
        listeners.open(configured(goes))
        workers = listeners._sockets[listeners.numbers[identity_of(goes)]].tcp.dup()
        workers.setblocking(False)
        waits = socket.create_connection(("127.0.0.1", goes))
        hold_back(workers)
        comes = socket.create_connection(("127.0.0.1", goes))
        if address:
            await change(listeners, goes, address=address)
            fresh = socket.create_connection(("127.0.0.1", goes))
            (sockets,) = listeners._sockets.values()
            (await accepted_from(sockets.tcp)).close()
            fresh.close()
        else:
            await change(listeners, stays)
            assert refuses(goes)
        let_through(workers)
        for client in (waits, comes):
            client.send(b"hello")
            accepted = await accepted_from(workers)
            assert accepted.getpeername() == client.getsockname()
            assert accepted.recv(5) == b"hello"
            # Back at once, while the workers accept yet.
            await change(listeners, goes)
            fresh = socket.create_connection(("127.0.0.1", goes))
            (sockets,) = listeners._sockets.values()
            (await accepted_from(sockets.tcp)).close()
            for one in (fresh, client, accepted):
                one.close()
        with pytest.raises(BlockingIOError):
            workers.accept()
        workers.close()
        listeners.close()

    run(scenario)


@pytest.mark.parametrize("taken", [False, True])
def test_a_start_says_if_others_have_its_udp_port(
    taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        port = free_port()
        listeners = Listeners(Slots(1))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as orphan:
            orphan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if taken:
                orphan.bind(("127.0.0.1", port))
            listeners.open(configured(port))
            assert listeners.addresses == [("127.0.0.1", port)]
        listeners.close()
        said = f"other processes have UDP port {port} of 127.0.0.1"
        assert [said in record.message for record in caplog.records] == [True] * taken

    run(scenario)


def test_no_other_workers_take_over_while_others_have_sockets_among_ours() -> None:
    """The kernel would move ours into the gaps that theirs leave."""

    async def scenario() -> None:
        port = free_port()
        listeners = Listeners(Slots(1))
        listeners.open(configured(port))

        async def rolled() -> None:
            candidate = cast(Candidate, SimpleNamespace(configuration=configured(port)))
            step = await listeners.prepare(NextGeneration(2, candidate, rolling=True))
            step.discard()

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as orphan:
            orphan.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            orphan.bind(("127.0.0.1", port))
            with pytest.raises(PrepareError, match="no other workers can take over"):
                await rolled()
            with pytest.raises(UpgradeError, match="no other workers can take over"):
                Inheriting(listeners)
            # Any other change is made.
            await change(listeners, port, free_port())
        await rolled()
        # Who is bound to another place is none of ours, in whatever way they overlap.
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as beside:
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            beside.bind(("::", port))
            await rolled()
        listeners.close()

    run(scenario)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_stop_lets_nobody_in_but_where_another_program_accepts_them(handed_over: bool) -> None:
    port = free_port()

    async def scenario() -> None:
        listeners = Listeners(Slots(1))
        listeners.open(configured(port))
        (sockets,) = listeners._sockets.values()
        workers = sockets.tcp.dup()
        client = socket.create_connection(("127.0.0.1", port))
        listeners.stop_accepting(handed_over=handed_over)
        assert refuses(port) != handed_over
        accepted, peer = workers.accept()
        assert peer == client.getsockname()
        for one in (client, accepted, workers):
            one.close()
        listeners.close()

    run(scenario)


def test_where_the_kernel_turns_nobody_away_who_waits_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux before 5.7, but for sockets that would get what is for others."""
    stays, goes = free_port(), free_port()
    monkeypatch.setattr(turning_away, "SO_BINDTOIFINDEX", -1)

    async def scenario() -> None:
        listeners = Listeners(Slots(1))
        listeners.open(configured(stays, goes))
        workers = listeners._sockets[listeners.numbers[identity_of(goes)]].tcp.dup()
        client = socket.create_connection(("127.0.0.1", goes))
        await change(listeners, stays)
        accepted, _ = workers.accept()
        client.send(b"hello")
        assert accepted.recv(5) == b"hello"
        await until(lambda: refuses(goes))
        # Nothing listens in the way of one that comes before that.
        await change(listeners, stays, goes)
        await change(listeners, stays)
        await change(listeners, stays, goes)
        assert not refuses(goes)
        for one in (client, accepted, workers):
            one.close()
        listeners.close()

    run(scenario)


async def assert_given_again(listeners: Listeners, number: int, stays: int, goes: int) -> None:
    """Make sure that a number waits for the end of what had it, and is given again then."""
    await change(listeners, stays, free_port())
    assert list(listeners.numbers.values())[1] != number
    back = asyncio.ensure_future(change(listeners, stays, goes))
    await asyncio.sleep(0.1)
    assert not back.done()
    listeners._end(number)
    await asyncio.wait_for(back, PATIENCE_SECONDS)
    assert list(listeners.numbers.values())[1] == number


def test_a_number_is_given_again_when_no_worker_has_the_listener_any_more() -> None:
    """Workers read one for longer than its sockets are open here, and would take it for back."""
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        listeners = Listeners(Slots(1))
        listeners.open(configured(stays, goes))
        number = list(listeners.numbers.values())[1]
        await change(listeners, stays)
        # As its time has come.
        listeners._forget(number)
        # However slow this is.
        listeners._ending[number].clearing.cancel()
        await assert_given_again(listeners, number, stays, goes)
        listeners.close()

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="the twin serves one worker, and none takes over")
def test_a_program_that_takes_over_keeps_numbers_and_places_until_no_worker_has_them() -> None:
    """Workers of the old program hand datagrams over by these numbers."""
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        old = Listeners(Slots(2))
        old.open(configured(stays, goes))
        number = list(old.numbers.values())[1]
        await change(old, stays)
        # Nothing is said of what there is not: programs from before this was told understand it.
        assert b"ended" not in Inheriting(old).data
        # As its time has come.
        old._forget(number)
        until_then = old._ending[number].clearing.when()

        new = Listeners(Slots(2, Steering((0, 1))))
        new.inherit(cast(Heir, Inheriting(old)), Performance())
        clearing = new._ending[number].clearing
        assert clearing.when() > until_then - 0.01
        # However slow this is.
        clearing.cancel()
        await assert_given_again(new, number, stays, goes)
        old.close()
        new.close()

    run(scenario)


def test_a_removal_that_ends_while_its_return_is_prepared_is_over() -> None:
    stays, goes = free_port(), free_port()

    async def scenario() -> None:
        listeners = Listeners(Slots(1))
        listeners.open(configured(stays, goes))
        number = list(listeners.numbers.values())[1]
        await change(listeners, stays)
        step = await prepared(listeners, stays, goes)
        # As its time has come.
        listeners._forget(number)
        clearing = listeners._ending[number].clearing
        step.check()
        step.commit()
        assert list(listeners.numbers.values())[1] == number
        assert listeners._ending == {}
        assert clearing.cancelled()
        assert not refuses(goes)
        # And once more, with nobody to wait for.
        await change(listeners, stays, goes)
        await change(listeners, stays)
        listeners._forget(number)
        listeners._end(number)
        listeners.close()

    run(scenario)
