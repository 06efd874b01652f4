"""Messages that want to be more than they are (rows 28 to 39) against a running proxy."""

import asyncio
import contextlib
import gzip
import json
import re

from h2.exceptions import ProtocolError

from tests.attacks.ground import MIB, Ground
from tests.attacks.wires import TcpWire
from tests.support.proxy import connect, run

HOST = b"host: localhost\r\n"
FRAMINGS = {
    # Row 28
    "two lengths": b"content-length: 1\r\ncontent-length: 2",
    "a length with a sign": b"content-length: +1",
    "a length with a separator": b"content-length: 1_0",
    "an empty length": b"content-length: ",
    # Row 29
    "both framings": b"content-length: 3\r\ntransfer-encoding: chunked",
    "an unknown coding": b"transfer-encoding: gzip, chunked",
    # Row 30
    "a NUL in a value": b"x: a\0b",
    "a space in a name": b"x y: a",
    "a folded line": b"x: a\r\n b",
}
HEADS = {
    # Row 31
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"host: other",
    "userinfo": b"GET https://user@localhost/ HTTP/1.1\r\n" + HOST,
    "another host": b"GET https://other/ HTTP/1.1\r\n" + HOST + b"x: y",
    # Row 33
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST,
    # Row 35
    "a long request line": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST,
}


async def answers(port: int, head: bytes) -> list[bytes]:
    """Return the statuses of all answers to a head, with one more request behind it."""
    wire = await TcpWire.connect(port, "http/1.1")
    behind = b"GET /behind HTTP/1.1\r\nconnection: close\r\n" + HOST + b"\r\n"
    await wire.send(head.removesuffix(b"\r\n") + b"\r\n\r\n" + behind)
    await wire.until_closed()
    await wire.close()
    return re.findall(rb"HTTP/1\.1 (\d+)", wire.received)


def test_what_could_end_in_two_places_is_refused_with_all_behind_it(proxy: Ground) -> None:
    """Rows 28 to 30: whatever a backend would have taken for the next request."""

    async def scenario() -> None:
        async with proxy.siege():
            for name, fields in FRAMINGS.items():
                head = b"POST /count HTTP/1.1\r\n" + HOST + fields
                assert await answers(proxy.port, head) in ([b"400"], [b"501"]), name
            assert "/behind" not in proxy.proxy.origin.gate.requests

    run(scenario)


def test_what_names_two_places_to_go_is_refused(proxy: Ground) -> None:
    """Rows 31 and 33: hosts that differ, userinfo, tunnels; and a line without end (row 35)."""

    async def scenario() -> None:
        async with proxy.siege():
            for name, head in HEADS.items():
                first, *_ = await answers(proxy.port, head)
                assert first in {b"400", b"403", b"405", b"414", b"501"}, name

    run(scenario)


def test_an_upgrade_opens_no_tunnel(proxy: Ground) -> None:
    """Row 33: the request is answered as HTTP, and what follows it is one (RFC 9931)."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await TcpWire.connect(proxy.port, "http/1.1")
            upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n"
            await wire.send(b"GET /size/10 HTTP/1.1\r\n" + HOST + upgrade + b"\r\n")
            await wire.until(lambda: b"HTTP/1.1 " in wire.received)
            assert wire.received.startswith(b"HTTP/1.1 200")
            await wire.send(b"noise that no tunnel carries\r\n\r\n")
            await wire.until_closed()
            assert b"HTTP/1.1 400" in wire.received
            await wire.close()

    run(scenario)


def test_pipelined_requests_are_served_one_by_one_and_not_without_end(proxy: Ground) -> None:
    """Row 35: thousands of requests in one write (CVE-2026-93491)."""

    async def scenario() -> None:
        async with proxy.siege() as siege:
            wire = await TcpWire.connect(proxy.port, "http/1.1")
            await wire.send((b"GET /size/10 HTTP/1.1\r\n" + HOST + b"\r\n") * 1_000)
            assert await proxy.counted("requests_active") <= 1 + 3
            await wire.until_closed()
            assert wire.received.count(b"HTTP/1.1 200") <= 200
            await wire.close()
            assert siege.memory < 8 * MIB

    run(scenario)


def test_trailers_do_not_become_fields(proxy: Ground) -> None:
    """Row 35: what only a head may say is not taken from behind the body."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await TcpWire.connect(proxy.port, "http/1.1")
            chunked = b"transfer-encoding: chunked\r\n\r\n"
            trailers = b"content-length: 5\r\nhost: other\r\n\r\n"
            request = b"POST /inspect HTTP/1.1\r\n" + HOST + chunked
            await wire.send(request + b"1\r\nx\r\n0\r\n" + trailers)
            await wire.until(lambda: b"\r\n\r\n" in wire.received or wire.closed.is_set())
            assert not wire.received.startswith(b"HTTP/1.1 200")
            await wire.close()

    run(scenario)


def test_underscores_do_not_pass_for_dashes(proxy: Ground) -> None:
    """Row 34: what CGI would take for a field of ours, in a head and in trailers."""

    async def scenario() -> None:
        async with proxy.siege():
            wire = await TcpWire.connect(proxy.port, "http/1.1")
            request = b"POST /inspect HTTP/1.1\r\n" + HOST + b"x_forwarded_for: 192.0.2.66\r\n"
            chunked = b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
            await wire.send(request + chunked + b"x_late: 192.0.2.66\r\nx-late: kept\r\n\r\n")
            await wire.until(lambda: wire.received.endswith(b"}"))
            assert wire.received.startswith(b"HTTP/1.1 200")
            assert b"192.0.2.66" not in wire.received
            assert b"kept" in wire.received
            await wire.close()

    run(scenario)


def test_labels_do_not_come_from_clients(proxy: Ground) -> None:
    """Row 38: hundreds of methods, paths, hosts and fields make no metric of their own."""

    async def scenario() -> None:
        async with proxy.siege():
            client = await connect("h1", proxy.port)
            await client.fetch("BREW", "/warm")
            before = len((await proxy.page()).splitlines())
            for number in range(300):
                headers = [(b"x-%d" % number, b"%d" % number), (b"user-agent", b"%d" % number)]
                await client.fetch(f"M{number}", f"/{number}?{number}", headers)
            await client.close()
            assert len((await proxy.page()).splitlines()) <= before + 20

    run(scenario)


def test_hundreds_of_cookies_and_query_keys_in_a_request_are_served(proxy: Ground) -> None:
    """What clients with much state send is no attack."""

    async def scenario() -> None:
        async with proxy.siege():
            client = await connect("h1", proxy.port)
            query = "&".join(f"k{number}={number}" for number in range(500))
            cookie = b"; ".join(b"c%d=%d" % (number, number) for number in range(500))
            for _ in range(10):
                response = await client.fetch("GET", f"/size/10?{query}", [(b"cookie", cookie)])
                assert response.status == 200
            await client.close()

    run(scenario)


def test_compressed_bodies_pass_as_they_are(proxy: Ground) -> None:
    """Row 39: a bomb of a thousand to one stays as small as it came."""

    async def scenario() -> None:
        bomb = gzip.compress(bytes(50 * MIB))
        async with proxy.siege() as siege:
            client = await connect("h2", proxy.port)
            for _ in range(5):
                response = await client.fetch(
                    "POST", "/count", [(b"content-encoding", b"gzip")], body=bomb
                )
                assert json.loads(response.body) == {"bytes": len(bomb)}
            await client.close()
            assert siege.memory < 8 * MIB

    run(scenario)


def test_clients_that_give_up_while_a_backend_fails_leave_nothing(proxy: Ground) -> None:
    """Rows 36 and 37: resets that cross retries, from all protocols at once."""

    async def give_up(ingress: str, number: int) -> None:
        client = await connect(ingress, proxy.port)
        for count in range(9):
            path = ("/reset-before-head", "/cut-short/5000", "/wait")[(number + count) % 3]
            stream = await client.open("GET" if number % 2 else "POST", path, end=bool(number % 2))
            await asyncio.sleep(0.002 * (count % 3))
            # Unless the response, or its end, was faster.
            with contextlib.suppress(ValueError, ProtocolError):
                await stream.cancel()
            if ingress == "h1":
                await client.close()
                client = await connect(ingress, proxy.port)
        await client.close()

    async def scenario() -> None:
        async with proxy.siege() as siege:
            kinds = ("h3", "h2", "h1")
            await asyncio.gather(*(give_up(kinds[n % 3], n) for n in range(6)))
            assert siege.memory < 16 * MIB

    run(scenario)
