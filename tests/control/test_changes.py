"""Changing what runs: by signal and by command, all of it or nothing, and taken back."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spooky._core import COMPILED
from spooky.cli.control_client import post
from tests.control.serve import Served, patient, served
from tests.support.client import Client, ClientStream
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES, run
from tests.support.scraping import scrape
from tests.support.waiting import refuses, until

WORKERS = 2 if COMPILED else 1


def deny(settings: dict[str, Any]) -> None:
    """Have requests for /echo refused: what tells one generation from another."""
    settings.setdefault("resilience", {})["protocol"] = {"denied_path_prefixes": ["/echo"]}


def allow(settings: dict[str, Any]) -> None:
    """Have them served again."""
    settings.pop("resilience", None)


async def statuses(clients: list[Client]) -> set[int | None]:
    """Return how requests on open connections are answered."""
    return {(await client.fetch("GET", "/echo")).status for client in clients}


async def connected(proxy: Served) -> list[Client]:
    """Return connections of all protocols, and of all workers."""
    return [await proxy.client(ingress) for ingress in INGRESSES for _ in range(4 * WORKERS)]


async def runtime(proxy: Served) -> dict[str, Any]:
    """Return what a running Spooky says of itself."""
    code, output = await proxy.command("status", "--json")
    assert code == 0, output
    answer: dict[str, Any] = json.loads(output)
    return answer


def test_a_reload_by_signal_changes_what_open_connections_get(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            assert await statuses(clients) == {200}
            proxy.write(deny)
            proxy.signal(signal.SIGHUP)
            await until(lambda: "generation 2 is in force after" in proxy.log)
            assert await statuses(clients) == {403}
            proxy.write(allow)
            proxy.signal(signal.SIGHUP)
            await until(lambda: "generation 3 is in force after" in proxy.log)
            assert await statuses(clients) == {200}

    run(scenario)


def test_a_change_is_planned_applied_listed_compared_and_taken_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            other = tmp_path / "other.yaml"
            shutil.copy(proxy.path, other)
            proxy.write(deny)
            shutil.move(proxy.path, tmp_path / "denying.yaml")
            shutil.move(other, proxy.path)
            denying = str(tmp_path / "denying.yaml")

            code, output = await proxy.command("plan", denying)
            assert code == 3
            assert "denied_path_prefixes" in output
            assert await statuses(clients) == {200}

            code, output = await proxy.command("apply", denying, "--reason", "a trial")
            assert code == 0, output
            assert "generation 2 is in force" in output
            assert await statuses(clients) == {403}

            code, output = await proxy.command("history")
            assert code == 0
            newest, oldest = output.splitlines()
            assert newest.startswith("*     2")
            assert "a trial" in newest
            assert "start" in oldest
            code, output = await proxy.command("diff", "1")
            assert "+    - /echo" in output
            code, output = await proxy.command("diff", "1", "--json")
            difference = json.loads(output)
            assert (difference["generation"], difference["other"]) == (1, 2)
            assert "+    - /echo" in difference["lines"]

            code, output = await proxy.command("plan", "--generation", "1")
            assert code == 3, output
            assert "from generation 2 back to 1" in output
            assert "denied_path_prefixes: [/echo] → []" in output
            assert await statuses(clients) == {403}
            code, output = await proxy.command("rollback", "--dry-run", "--json")
            assert (code, '"back_to": 1' in output) == (3, True)
            code, output = await proxy.command("plan", "--generation", "7")
            assert code == 1
            assert "generation 7 is not kept" in output
            code, output = await proxy.command("rollback")
            assert code == 0, output
            assert await statuses(clients) == {200}
            assert (await runtime(proxy))["generation"]["origin"] == 1
            code, output = await proxy.command("rollback")
            assert code == 1
            assert "no earlier generation" in output
            # What was applied is what a reload reads.
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(clients) == {403}

    run(scenario)


def test_a_broken_file_changes_nothing_and_says_where_it_is_broken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            proxy.write(lambda settings: settings.update(upsteam={}))
            code, output = await proxy.command("reload")
            assert code == 1
            assert "upsteam" in output
            assert "upstream" in output.partition("remedy")[2]
            assert await statuses(clients) == {200}
            assert (await runtime(proxy))["generation"]["number"] == 1

    run(scenario)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            os.mkfifo(tmp_path / "pipe")
            code, output = await proxy.command("apply", str(tmp_path / "pipe"))
            assert code == 1
            assert "not a regular file" in output
            proxy.write(deny)
            assert (await proxy.command("reload"))[0] == 0

    run(scenario)


def test_an_invalid_certificate_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            (tmp_path / "broken.pem").write_text("no certificate")
            broken = str(tmp_path / "broken.pem")
            proxy.write(lambda settings: settings["listen"]["tls"].update(cert=broken))
            code, output = await proxy.command("reload")
            assert code == 1
            assert "broken.pem" in output
            assert await statuses(clients) == {200}

    run(scenario)


def test_a_port_in_use_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]

                def add(settings: dict[str, Any]) -> None:
                    first = settings.pop("listen")
                    settings["listeners"] = [first, {**first, "port": port}]

                clients = await connected(proxy)
                proxy.write(add)
                code, output = await proxy.command("reload")
                assert code == 1
                assert str(port) in output
                assert await statuses(clients) == {200}
                assert (await runtime(proxy))["generation"]["number"] == 1

    run(scenario)


def test_the_metrics_endpoint_moves_and_its_port_in_use_stops_only_its_own_change(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, free = taken.getsockname()[1], free_port()

        def metrics(settings: dict[str, Any], port: int) -> None:
            settings["observability"] = {"metrics": {"enabled": True, "port": port}}

        async def scenario() -> None:
            async with served(tmp_path, WORKERS, lambda s: metrics(s, port)) as proxy:
                assert "serving without metrics" in proxy.log
                proxy.write(deny)
                code, output = await proxy.command("reload")
                assert code == 0, output
                proxy.write(lambda settings: metrics(settings, free))
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert "spooky_generation 3" in await scrape(free)
                proxy.write(lambda settings: metrics(settings, port))
                code, output = await proxy.command("reload")
                assert code == 1
                assert str(port) in output
                assert "spooky_generation 3" in await scrape(free)
                proxy.write(lambda settings: metrics(settings, free))
                anywhere = {"address": "0.0.0.0", "allow_non_loopback": True}
                proxy.write(lambda settings: settings["observability"]["metrics"].update(anywhere))
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert "spooky_generation 5" in await scrape(free)

        run(scenario)


def test_listeners_come_and_go_while_others_keep_their_connections(tmp_path: Path) -> None:
    """Also back while they drain: they serve at once, and what drains is not cut any more."""

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, patient) as proxy:
            clients = await connected(proxy)
            port = free_port()

            def add(settings: dict[str, Any]) -> None:
                first = settings.pop("listen")
                settings["listeners"] = [first, {**first, "port": port}]

            proxy.write(add)
            assert (await proxy.command("reload"))[0] == 0
            fresh = [
                await Served(proxy.process, port, proxy.origin, tmp_path).client(ingress)
                for ingress in INGRESSES
                for _ in range(2 * WORKERS)
            ]
            assert await statuses(fresh) == {200}
            again = Served(proxy.process, port, proxy.origin, tmp_path)
            both = tmp_path / "both.yaml"
            shutil.copy(proxy.path, both)
            proxy.write(lambda settings: settings["listeners"].pop())
            streams: list[ClientStream] = []
            # The second time by workers that never had it, beside those that did and leave.
            renew = [["reload", "--workers"]] if COMPILED else []
            for commands in ([["rollback"]], [*renew, ["apply", str(both)]]):
                streams += [await client.open("GET", "/wait") for client in fresh]
                await until(lambda: proxy.origin.gate.requests["/wait"] == len(streams))  # noqa: B023
                code, output = await proxy.command("apply", str(proxy.path))
                assert code == 0, output
                assert await statuses(clients) == {200}
                await until(lambda: refuses(port))
                for command in commands:
                    code, output = await proxy.command(*command)
                    assert code == 0, output
                fresh = await connected(again)
                assert await statuses(fresh) == {200}
            proxy.origin.gate.opened.set()
            responses = [await stream.whole() for stream in streams]
            assert {(one.status, one.cut) for one in responses} == {(200, None)}
            assert await statuses(fresh) == {200}
            assert await statuses(await connected(proxy)) == {200}
            assert "died" not in proxy.log

    run(scenario)


def test_an_address_is_widened_and_narrowed_on_the_same_port(tmp_path: Path) -> None:
    """Sockets with the more specific address get what is sent there, whoever has the connection.

    The last is there again while its first time drains.
    """

    def change(settings: dict[str, Any]) -> None:
        patient(settings)
        settings["listen"]["address"] = "0.0.0.0"

    async def scenario() -> None:
        async with served(tmp_path, WORKERS, change) as proxy:
            clients = await connected(proxy)

            def listen_on(address: str) -> Callable[[dict[str, Any]], None]:
                listen = {"address": address, "port": proxy.port}
                return lambda settings: settings["listen"].update(listen)

            # The free port, written down: the listener is the same.
            proxy.write(listen_on("0.0.0.0"))
            assert (await proxy.command("reload"))[0] == 0
            assert await statuses(clients) == {200}
            streams: list[ClientStream] = []
            for address in ("127.0.0.1", "::", "127.0.0.1"):
                streams += [await client.open("GET", "/wait") for client in clients]
                await until(lambda: proxy.origin.gate.requests["/wait"] == len(streams))  # noqa: B023
                proxy.write(listen_on(address))
                code, output = await proxy.command("reload")
                assert code == 0, output
                clients = await connected(proxy)
                assert await statuses(clients) == {200}
            proxy.origin.gate.opened.set()
            responses = [await stream.whole() for stream in streams]
            assert {(one.status, one.cut) for one in responses} == {(200, None)}
            assert await statuses(clients) == {200}
            assert await statuses(await connected(proxy)) == {200}
            assert "died" not in proxy.log

    run(scenario)


def test_a_change_that_expects_another_generation_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            proxy.write(deny)
            code, output = await proxy.command("reload", "--expect", "7")
            assert code == 1
            assert "generation 1 is in force, not 7" in output
            code, output = await proxy.command("reload", "--expect", "1")
            assert code == 0, output
            # Or by what it says, as whoever wrote the file knows it.
            content = hashlib.sha256(proxy.path.read_bytes()).hexdigest()
            proxy.write(allow)
            code, output = await proxy.command("reload", "--expect", "f" * 64)
            assert code == 1
            assert f"has the SHA-256 {content}, not ffff" in output
            code, output = await proxy.command("reload", "--expect", content)
            assert code == 0, output
            code, output = await proxy.command("reload", "--expect", "none")
            assert code == 2
            assert "neither a generation nor the SHA-256" in output

    run(scenario)


def test_the_control_socket_and_the_history_move_with_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            before = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            # The place where it is already, written out, is no move.
            proxy.write(lambda settings: settings.update(control={"socket": str(before)}))
            code, output = await proxy.command("reload")
            assert code == 0, output
            after = before.with_name("other.sock")

            def move(settings: dict[str, Any]) -> None:
                settings["control"] = {"socket": str(after), "state_dir": str(tmp_path / "moved")}

            proxy.write(move)
            code, output = await proxy.command("reload")
            assert code == 0, output
            await until(lambda: not before.exists())
            code, output = await proxy.command("history", "--socket", str(after))
            assert code == 0, output
            assert len(output.splitlines()) == 3
            assert len(list((tmp_path / "moved").glob("*.json"))) == 3
            code, output = await proxy.command("status")
            assert code == 1
            assert "no Spooky listens" in output
            # And back, though the history that it had there is there still; and once more at once.
            code, output = await proxy.command("rollback", "--socket", str(after))
            assert code == 0, output
            code, output = await proxy.command("rollback", "3")
            assert code == 0, output
            code, output = await proxy.command("history", "--socket", str(after))
            assert code == 0, output
            assert len(output.splitlines()) == 5

    run(scenario)


def test_a_history_that_cannot_be_written_stops_the_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            shutil.rmtree(tmp_path / "state")
            proxy.write(deny)
            code, output = await proxy.command("reload")
            assert code == 1
            assert "history" in output
            assert await statuses(clients) == {200}
            # The next attempt is another: what workers said of this one does not count for it.
            (tmp_path / "state").mkdir()
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(clients) == {403}
            assert (await runtime(proxy))["generation"]["number"] == 3
            assert "it ends, to be replaced" not in proxy.log

    run(scenario)


def talkative(settings: dict[str, Any]) -> None:
    """Log each step."""
    settings["log"] = {"level": "debug"}


@pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")
def test_a_worker_that_dies_while_preparing_stops_the_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS, talkative) as proxy:
            victim = proxy.workers[0]
            os.kill(victim, signal.SIGSTOP)
            proxy.write(deny)
            reload = asyncio.ensure_future(proxy.command("reload"))
            await until(lambda: "the workers prepare generation 2" in proxy.log)
            os.kill(victim, signal.SIGKILL)
            code, output = await reload
            assert code == 1
            assert "died while preparing" in output
            await until(lambda: len(proxy.workers) == WORKERS)
            assert await statuses(await connected(proxy)) == {200}
            # And nothing stands in the way of the next.
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(await connected(proxy)) == {403}

    run(scenario)


@pytest.mark.skipif(not COMPILED, reason="the twin serves one worker")
def test_a_worker_replaced_later_serves_the_generation_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            proxy.write(deny)
            assert (await proxy.command("reload"))[0] == 0
            for victim in proxy.workers:
                os.kill(victim, signal.SIGKILL)
                await until(lambda victim=victim: victim not in proxy.workers)
                await until(lambda: len(proxy.workers) == WORKERS)
            await until(lambda: proxy.log.count("replacing it") == WORKERS)
            assert await statuses(await connected(proxy)) == {403}

    run(scenario)


def test_logs_change_in_all_processes_at_the_commit(tmp_path: Path) -> None:
    log, access_log = tmp_path / "spooky.log", tmp_path / "access.log"

    def to_files(settings: dict[str, Any]) -> None:
        settings["log"] = {"format": "json", "file": {"enabled": True, "path": str(log)}}
        settings["access_log"] = {"path": str(access_log), "format": "json"}

    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            clients = await connected(proxy)
            assert await statuses(clients) == {200}
            # Said a moment after the start, of a certificate with 30 days to go.
            await until(lambda: " expires on " in proxy.log)
            said = proxy.log
            proxy.write(to_files)
            code, output = await proxy.command("reload")
            assert code == 0, output
            await until(lambda: log.exists() and log.read_text().count('is in force"') == WORKERS)
            assert await statuses(clients) == {200}
            await until(lambda: access_log.read_text().count("\n") == len(clients))
            assert {json.loads(line)["status"] for line in access_log.read_text().splitlines()} == {
                200
            }
            assert '"part": "spooky.control' in log.read_text()
            assert proxy.log.replace(said, "") == ""
            # Off and elsewhere: nothing more comes where it went.
            proxy.write(lambda settings: settings.update(access_log={"enabled": False}))
            proxy.write(lambda settings: settings.pop("log"))
            code, output = await proxy.command("reload")
            assert code == 0, output
            assert await statuses(clients) == {200}
            assert access_log.read_text().count("\n") == len(clients)
            assert "generation 3 is in force after" in proxy.log
            # One that cannot be written changes nothing.
            proxy.write(lambda settings: settings.update(access_log={"path": str(tmp_path)}))
            code, output = await proxy.command("reload")
            assert code == 1
            assert "access_log.path" in output
            assert await statuses(clients) == {200}

    run(scenario)


def test_a_broken_file_starts_from_the_last_good_generation_when_told_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, WORKERS) as proxy:
            proxy.write(deny)
            assert (await proxy.command("reload"))[0] == 0
            good = proxy.path.read_text()
            proxy.write(allow)
            control = Path(os.environ["XDG_RUNTIME_DIR"]) / "spooky" / "control.sock"
            wanted = {"probation_seconds": 600}
            answer = await asyncio.to_thread(post, control, "/admin/runtime/reload", wanted)
            assert answer["generation"]["unproven"]
            proxy.path.write_text("version: [")
            # Ended before anything could be said of the third.
            proxy.signal(signal.SIGTERM)
            assert await proxy.exited() == 0
            state = str(tmp_path / "state")
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "spooky.cli.main", "serve", "--config", str(proxy.path),
                "--resume", "--state-dir", state, stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "STATE_DIRECTORY": state},
            )  # fmt: skip
            assert process.stderr is not None
            said = b""
            async with asyncio.timeout(60):
                while b"serving HTTP/3" not in said:
                    said += await process.stderr.readline()
            assert b"generation 3 was on probation, and is not used" in said
            assert b"starting with generation 2" in said
            port = int(said.rpartition(b"port ")[2])
            again = Served(process, port, proxy.origin, tmp_path)
            assert await statuses([await again.client("h3")]) == {403}
            # The way back leads past the third, and a reload reads the file that was broken.
            assert (await again.command("rollback"))[0] == 0
            assert await statuses([await again.client("h3")]) == {200}
            proxy.path.write_text(good)
            code, output = await again.command("reload")
            assert code == 0, output
            assert "nothing changed" not in output
            assert await statuses([await again.client("h3")]) == {403}
            process.terminate()
            assert await process.wait() == 0

    run(scenario)


def test_plans_and_changes_tell_what_the_file_warns_of_and_what_this_machine_lacks(
    tmp_path: Path,
) -> None:
    def unknown_name(settings: dict[str, Any]) -> None:
        (upstream,) = settings["upstream"].values()
        upstream["backends"][0]["address"] = "http://no-such-host.invalid:80"

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with served(tmp_path, 1) as proxy:
                proxy.write(unknown_name)
                code, output = await proxy.command("plan", str(proxy.path))
                assert code == 3, output
                assert 'warning: upstream.backend.backends[0].address: "no-such-host.inv' in output
                assert "does not resolve" in output
                # A change says the same, and is made: other backends serve meanwhile.
                code, output = await proxy.command("apply", str(proxy.path))
                assert code == 0, output
                assert 'warning: upstream.backend.backends[0].address: "no-such-host.inv' in output
                assert "is in force" in output
                assert '"no-such-host.invalid" does not resolve' in proxy.log
                # In force, it is followed, and what is known of it is told by each change.
                await until(lambda: "no-such-host.invalid does not resolve" in proxy.log)
                code, output = await proxy.command("reload")
                assert code == 0, output
                assert 'warning: upstream.backend.backends[0].address: "no-such-host.inv' in output
                proxy.write(lambda settings: settings["listen"].update(port=port))
                code, output = await proxy.command("plan", str(proxy.path))
                assert code == 1, output
                assert f"127.0.0.1 port {port} (TCP) is in use by" in output

    run(scenario)
