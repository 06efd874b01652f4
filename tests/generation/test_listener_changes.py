"""Listeners come and go with a change; the others, and their numbers, stay."""

import asyncio
import gc
import socket
import ssl
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooky.config.schema import Listener
from spooky.edge import messages
from spooky.edge.change import Change
from spooky.edge.listener_numbers import listener_identities, number_listeners
from spooky.edge.messages import Discard, Prepare, Prepared, PrepareFailed
from spooky.generation.generation import Generation
from spooky.protocol.quic.engines import ENGINES
from tests.certificates import Credentials, ca, client_leaf, shared_server, write
from tests.control.serve import patient
from tests.edge.test_tls import client_context, resume_on_tcp
from tests.generation.test_changes import Changes, Edit, limit, status, with_changes
from tests.support.ports import free_port
from tests.support.proxy import connect
from tests.support.tls import plain_context
from tests.support.waiting import until


def test_a_listener_keeps_its_number_when_others_come_and_go() -> None:
    one, two, three = (Listener(port=port) for port in (1, 2, 3))
    first = number_listeners([one, two], {}, ())
    assert list(first.values()) == [0, 1]
    # The one that was removed still drains: its number is not given again.
    second = number_listeners([three, two], {k: v for k, v in first.items() if v == 1}, [0])
    assert list(second.values()) == [2, 1]


def test_listeners_on_free_ports_are_told_apart_by_their_order() -> None:
    identities = listener_identities([Listener(port=0), Listener(port=1), Listener(port=0)])
    assert len(set(identities)) == 3


def test_more_listeners_than_one_byte_can_name_are_refused() -> None:
    with pytest.raises(ValueError, match="256 listeners"):
        number_listeners([Listener(port=port) for port in range(1, 258)], {}, ())


def listeners(*ports: int) -> Edit:
    def edit(settings: dict[str, Any]) -> None:
        listen = settings.pop("listen")
        settings["listeners"] = [listen | {"port": port} for port in ports]

    return edit


@pytest.mark.parametrize("ingress", ["h3", "h2"])
def test_a_listener_that_is_added_serves_and_one_that_is_removed_refuses(
    ingress: str, tmp_path: Path
) -> None:
    async def scenario(changes: Changes) -> None:
        kept = changes.worker.listeners[0]
        old = await changes.setup.client()
        assert await status(old, "/size/1") == 200
        port = free_port()
        await changes.apply(listeners(0, port))
        assert changes.worker.listeners[0] is kept
        added = await connect(ingress, port)
        assert await status(added, "/size/1") == 200
        await added.close()
        assert await status(old, "/size/1") == 200
        await changes.apply(listeners(port))
        assert list(changes.worker.listeners) == [1]
        # What is idle is told to go.
        await until(lambda: kept.tcp.active == kept.quic.active == 0)

    with_changes(tmp_path, scenario, ingress)


@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_a_request_on_a_removed_listener_finishes(ingress: str, tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(changes.setup.origin.gate.reached.wait(), 30)
        await changes.apply(listeners(free_port()))
        assert changes.worker.removed == {0}
        changes.setup.origin.gate.opened.set()
        await asyncio.wait_for(stream.whole(), 30)
        assert stream.response.status == 200

    with_changes(tmp_path, scenario, ingress)


def test_a_connection_that_waits_to_be_accepted_is_served_by_a_listener_that_is_removed(
    tmp_path: Path,
) -> None:
    async def scenario(changes: Changes) -> None:
        port = free_port()
        await changes.apply(listeners(0, port))
        await changes.worker.prepare(replace(changes.change(3), listeners=(0,)))
        # No turn of the loop from here on in which it could be accepted.
        waiting = socket.create_connection(("127.0.0.1", port))
        changes.commit(3)
        changes.worker.look()
        reader, writer = await asyncio.open_connection(
            sock=waiting, ssl=plain_context("http/1.1"), server_hostname="localhost"
        )
        assert changes.worker.removed == {1}
        writer.write(b"GET /size/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()

    with_changes(tmp_path, scenario)


@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_a_removed_listener_is_back_at_once_and_cuts_nothing_of_before(
    ingress: str, tmp_path: Path
) -> None:
    other, port = free_port(), free_port()

    def at(*ports: int) -> Edit:
        def edit(settings: dict[str, Any]) -> None:
            listeners(*ports)(settings)
            patient(settings)

        return edit

    async def scenario(changes: Changes) -> None:
        await changes.apply(at(other, port))
        number = max(changes.worker.listeners)
        kept = changes.worker.listeners[number]
        streams = []
        for there, here in ((other, "/size/1"), (port, "/wait"), (port, "/wait")):
            client = await connect(ingress, there)
            streams.append((client, await client.open("GET", here)))
        gate = changes.setup.origin.gate
        await until(lambda: gate.requests["/wait"] == 2)
        for _ in range(2):
            await changes.apply(at(other))
            assert number in changes.worker.removed
            await changes.apply(at(other, port))
            assert number not in changes.worker.removed
            assert changes.worker.listeners[number] is kept
            fresh = await connect(ingress, port)
            assert await status(fresh, "/size/1") == 200
            await fresh.close()
        gate.opened.set()
        for client, stream in streams:
            response = await asyncio.wait_for(stream.whole(), 30)
            assert (response.status, response.cut) == (200, None)
            await client.close()

    with_changes(tmp_path, scenario, ingress)


def test_a_listener_that_ends_while_a_change_brings_it_back_serves_and_comes_back_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, port = free_port(), free_port()

    async def scenario(changes: Changes) -> None:
        worker, prepare = changes.worker, changes.worker.prepare
        await changes.apply(listeners(other, port))
        number = max(worker.listeners)
        await changes.apply(listeners(other))

        async def prepare_for_long(change: Change) -> None:
            await prepare(change)
            # As its time has come.
            worker._removed[number]._end()

        with monkeypatch.context() as patch:
            patch.setattr(worker, "prepare", prepare_for_long)
            await changes.apply(listeners(other, port))
        assert await status(await connect("h3", port), "/size/1") == 200
        await changes.apply(listeners(other))
        await changes.apply(listeners(other, port))
        assert await status(await connect("h3", port), "/size/1") == 200

    with_changes(tmp_path, scenario, "h3")


@pytest.mark.parametrize(
    ("ingress", "engine"), [*(("h3", engine) for engine in ENGINES), ("h2", "auto"), ("h1", "auto")]
)
def test_connections_keep_no_certificates_that_were_replaced(
    engine: str, ingress: str, tmp_path: Path
) -> None:
    def with_engine(settings: dict[str, Any]) -> None:
        settings["performance"]["quic_engine"] = engine

    async def scenario(changes: Changes) -> None:
        await changes.apply(with_engine)
        client = await changes.setup.client()
        assert await status(client, "/size/1") == 200
        (tls,) = changes.worker.service.generation.listener_tls
        replaced = [weakref.ref(each) for each in (tls.selector, tls.tcp)]
        del tls
        # The edit has new certificates.
        await changes.apply(with_engine)
        await changes.given_up()
        gc.collect()
        assert [each() for each in replaced] == [None, None]
        assert await status(client, "/size/1") == 200

    with_changes(tmp_path, scenario, ingress)


@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_a_request_on_a_removed_listener_is_cut_after_the_bound(
    ingress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spooky.edge.listener.READ_SECONDS", 0.0)

    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(changes.setup.origin.gate.reached.wait(), 30)
        port = free_port()

        def edit(settings: dict[str, Any]) -> None:
            listeners(port)(settings)
            settings["performance"]["shutdown_drain_timeout_ms"] = 100

        await changes.apply(edit)
        await asyncio.wait_for(stream.whole(), 30)
        assert ended_for(changes, "removed") == 1
        await until(lambda: not changes.worker.removed)

    with_changes(tmp_path, scenario, ingress)


def test_a_request_to_a_removed_backend_is_cut_after_the_bound(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        client = await changes.setup.client()
        stream = await client.open("GET", "/wait")
        await asyncio.wait_for(changes.setup.origin.gate.reached.wait(), 30)

        def edit(settings: dict[str, Any]) -> None:
            settings["upstream"]["backend"]["backends"][0]["address"] = "http://127.0.0.1:9"
            settings["performance"]["shutdown_drain_timeout_ms"] = 100

        await changes.apply(edit)
        await asyncio.wait_for(stream.whole(), 30)
        assert stream.response.status == 503
        assert ended_for(changes, "removed") == 1

    with_changes(tmp_path, scenario)


def ended_for(changes: Changes, reason: str) -> int:
    """Return how many requests ended for a reason."""
    return sum(
        count
        for name, count in changes.worker.counters.snapshot()
        if name.metric == "requests_total" and ("reason", reason) in name.labels
    )


def test_a_tls_1_2_session_is_not_resumed_under_another_authority(tmp_path: Path) -> None:
    """Attack 32: whom the new authority does not vouch for is refused, session or not."""
    old, new = ca("old clients"), ca("new clients")
    context = client_context(client_leaf("alice", old), tmp_path, "TLS 1.2")
    kept = write(shared_server(), tmp_path, "kept")

    def authority(trusted: Credentials) -> Edit:
        def edit(settings: dict[str, Any]) -> None:
            path = tmp_path / "clients.pem"
            path.write_bytes(trusted.certificate_pem)
            settings["listen"]["tls"] = {
                "cert": str(kept.certificate),
                "key": str(kept.key),
                "client_auth": {
                    "enabled": True,
                    "require_client_cert": True,
                    "ca_file": str(path),
                },
            }

        return edit

    async def scenario(changes: Changes) -> None:
        async def resume(session: Any) -> tuple[Any, bool]:
            port = changes.setup.proxy.port
            return await asyncio.to_thread(resume_on_tcp, port, context, session)

        await changes.apply(authority(old))
        session, _ = await resume(None)
        session, resumed = await resume(session)
        assert resumed
        # A change of something else disturbs no session.
        await changes.apply(lambda settings: (authority(old)(settings), limit(9)(settings)))
        session, resumed = await resume(session)
        assert resumed
        await changes.apply(authority(new))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await resume(session)

    with_changes(tmp_path, scenario)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_change_ends_no_session_over_tcp_but_one_of_certificates_does(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    context = plain_context()
    context.maximum_version = version
    kept = write(shared_server(), tmp_path, "kept")

    def keep(settings: dict[str, Any]) -> None:
        settings["listen"]["tls"] = {"cert": str(kept.certificate), "key": str(kept.key)}

    async def scenario(changes: Changes) -> None:
        session: ssl.SSLSession | None = None
        edits = (keep, lambda settings: (keep(settings), limit(9)(settings)), lambda _: None)
        resumed = []
        for edit in edits:
            await changes.apply(edit)
            port = changes.setup.proxy.port
            session, was = await asyncio.to_thread(resume_on_tcp, port, context, session)
            resumed.append(was)
        assert resumed == [False, True, False]

    with_changes(tmp_path, scenario)


def test_a_thousand_switches_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        await (await changes.setup.client()).fetch("GET", "/size/1")
        generations: weakref.WeakSet[Generation] = weakref.WeakSet()
        limits = [changes.change(0, limit(number)).configuration for number in (7, 8)]
        change = changes.change(0)
        for number in range(2, 1002):
            generations.add(changes.worker.service.generation)
            await changes.worker.prepare(
                type(change)(number, limits[number % 2], change.materials, change.listeners)
            )
            changes.commit(number)
            changes.worker.look()
            await asyncio.sleep(0)
            if number == 100:
                await changes.given_up()
                gc.collect()
                before = len(gc.get_objects())
        await changes.given_up()
        gc.collect()
        assert len(generations) == 0
        assert len(gc.get_objects()) - before < 200

    with_changes(tmp_path, scenario)


def test_messages_of_a_change_arrive_as_they_were_sent(tmp_path: Path) -> None:
    async def scenario(changes: Changes) -> None:
        change = changes.change(3)
        prepare = Prepare(
            3, change.configuration, {"file": b"\0"}, b"pem", (0, 4), 2.5, ("udp:4", "tcp:4")
        )
        assert messages.decode_for_worker(messages.encode(prepare)) == prepare
        assert messages.decode_for_worker(messages.encode(Discard(3))) == Discard(3)
        for answer in (Prepared(3), PrepareFailed(3, "why")):
            assert messages.decode_for_supervisor(messages.encode(answer)) == answer

    with_changes(tmp_path, scenario)
