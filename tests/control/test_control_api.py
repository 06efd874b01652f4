"""The control API over TCP: who gets in, what each may do, and what is written down of it."""

import asyncio
import functools
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from fuzz.admin_requests import Api
from spooky._core import COMPILED
from spooky.control.state import State
from tests.certificates import ca, client_leaf, leaf, write
from tests.control.control_api import TOKENS, Answer, ask, port_of, with_tokens
from tests.control.serve import served
from tests.support.proxy import run
from tests.support.tls import plain_context
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not COMPILED, reason="the twins know nothing of it")

RUNTIME = "/admin/runtime"
ONE = f"{RUNTIME}/upstreams/backend/backends/one"


def audit(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_defect_is_written_down_of_health_checks_too() -> None:
    def broken() -> State:
        raise ValueError("a defect")

    api = Api()
    for state, lines in ((lambda: State.SERVING, 0), (broken, 1)):
        api.api._state = state
        answer = api.loop.run_until_complete(api.ask("GET", "/health", "", b""))
        assert (answer.status, len(api.audit.lines)) == (500 if lines else 200, lines)
    api.loop.close()
    (line,) = map(json.loads, api.audit.lines)
    assert (line["action"], line["outcome"], line["code"]) == ("health", "failed", "defect")


def test_each_role_may_what_it_may_and_everything_is_written_down(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"

    def change(settings: dict[str, Any]) -> None:
        with_tokens(tmp_path, settings, audit={"sink": "file", "file_path": str(log)})

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            port = port_of(proxy)

            async def status(target: str, role: str | None, body: Any = None) -> int:
                return (await ask(port, target, role, body)).status

            # Nobody, somebody else, and a token cut short.
            missing = await ask(port, RUNTIME)
            assert (missing.status, missing.json["code"]) == (401, "missing_authentication")
            assert missing.headers["www-authenticate"] == "Bearer"
            assert missing.headers["content-type"] == "application/problem+json"
            wrong = await ask(port, RUNTIME, TOKENS["admin"][:-1])
            assert (wrong.status, wrong.json["code"]) == (401, "invalid_bearer_token")
            assert await status("/admin/nothing", None) == 401
            # Health checks need no token.
            assert await status("/health", None) == await status("/ready", None) == 200

            assert [await status(RUNTIME, role) for role in TOKENS] == [200, 200, 200]
            drained = [await status(f"{ONE}/drain", role, {}) for role in TOKENS]
            assert drained == [403, 200, 200]
            reset = await ask(port, f"{ONE}/reset", "operator", {"reason": "done"})
            assert reset.json["generation"]["requested_by"] == "the-operator"

            # Who may name any file may read any: only an admin.
            secret = tmp_path / "elsewhere.yaml"
            secret.write_text("root: x:0:0")
            named = {"config_path": str(secret)}
            for target in ("preview", "validate", "activate"):
                refused = await ask(port, f"{RUNTIME}/{target}", "operator", named)
                assert (refused.status, refused.json["code"]) == (403, "insufficient_role")
                assert "root" not in str(refused.json)
            judged = await ask(port, f"{RUNTIME}/validate", "admin", named)
            assert (judged.status, judged.json["valid"]) == (200, False)
            own = {"config_path": str(proxy.path)}
            assert (await ask(port, f"{RUNTIME}/validate", "operator", own)).json["valid"]
            assert await status(f"{RUNTIME}/reload", "viewer", {}) == 403
            # What is wrong with a broken file is said; its text only to who may read files.
            good = proxy.path.read_text()
            proxy.path.write_text("version: [")
            broken = await ask(port, f"{RUNTIME}/reload", "operator", {})
            assert broken.status == 400
            assert broken.json["problems"]
            assert "text" not in broken.json
            proxy.path.write_text(good)

            lines = audit(log)
            assert [(one["action"], one["status"]) for one in lines[:3]] == [
                ("runtime", 401), ("runtime", 401), ("unknown", 401),
            ]  # fmt: skip
            drains = [one for one in lines if one["action"] == "drain"]
            assert [(one["actor"], one["role"], one["outcome"]) for one in drains] == [
                ("the-viewer", "viewer", "refused"),
                ("the-operator", "operator", "done"),
                ("the-admin", "admin", "done"),
            ]
            (reset_line,) = [one for one in lines if one["action"] == "reset"]
            assert reset_line["reason"] == "done"
            assert reset_line["generation"] == 3
            assert reset_line["peer"] == "127.0.0.1"
            # The socket's requests too, and no token anywhere.
            assert (await proxy.command("status"))[0] == 0
            assert audit(log)[-1]["through"] == "socket"
            assert log.stat().st_mode & 0o777 == 0o600
            everything = log.read_text() + proxy.log
            history = "".join(path.read_text() for path in (tmp_path / "state").glob("*.json"))
            for token in TOKENS.values():
                assert token not in everything + history

    run(scenario)


def test_tokens_roles_address_and_certificate_change_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, lambda s: with_tokens(tmp_path, s)) as proxy:
            first = port_of(proxy)
            assert (await ask(first, RUNTIME, "viewer")).status == 200

            # A rotated token, by an operator whose own connection gets its answer.
            old = TOKENS["viewer"]
            (tmp_path / "viewer.token").write_text("f" * 64)
            answer = await ask(first, f"{RUNTIME}/reload", "operator", {})
            assert answer.status == 200
            shown = json.dumps(answer.json["plan"])
            assert "(secret)" in shown
            assert "f" * 64 not in shown
            assert (await ask(first, RUNTIME, old)).status == 401
            assert (await ask(first, RUNTIME, "f" * 64)).status == 200

            # Files alone; one that cannot be used keeps all as they were.
            (tmp_path / "operator.token").write_text("short")
            (tmp_path / "viewer.token").write_text("e" * 64)
            certificates = f"{RUNTIME}/reload-certs"
            refused = await ask(first, certificates, "operator", {})
            assert (refused.status, refused.json["code"]) == (400, "invalid")
            assert "operator.token holds no token" in refused.json["detail"]
            assert (await ask(first, RUNTIME, "f" * 64)).status == 200
            (tmp_path / "operator.token").write_text(TOKENS["operator"])
            renewed = await ask(first, certificates, "operator", {})
            assert renewed.json["generation"]["source"] == "renewal"
            assert (await ask(first, RUNTIME, "f" * 64)).status == 401
            assert (await ask(first, RUNTIME, "e" * 64)).status == 200
            code, output = await proxy.command("reload", "--certificates")
            assert (code, "nothing changed" in output) == (0, True)
            assert (await ask(first, f"{RUNTIME}/restart", "operator", {})).status == 403

            # A file that others can read is refused, and what was in force stays.
            (tmp_path / "viewer.token").chmod(0o644)
            refused = await ask(first, f"{RUNTIME}/reload", "operator", {})
            assert (refused.status, refused.json["code"]) == (400, "invalid")
            assert "chmod 600" in refused.json["detail"]
            (tmp_path / "viewer.token").chmod(0o600)

            # Elsewhere; and a port in use stops the change.
            with socket.create_server(("127.0.0.1", 0)) as taken:
                proxy.write(
                    lambda s: s["observability"]["control_api"].update(port=taken.getsockname()[1])
                )
                refused = await ask(first, f"{RUNTIME}/reload", "admin", {})
                assert refused.status == 500
                assert "in use" in refused.json["detail"]
            answer = await ask(first, f"{RUNTIME}/reload", "admin", {})
            assert answer.status == 200
            moved = answer.json["plan"]["changes"][0]["new"]
            assert (await ask(moved, RUNTIME, "admin")).status == 200
            with pytest.raises(OSError, match="refused"):
                await ask(first, RUNTIME, "admin")

            # Wider, on the same port.
            proxy.write(
                lambda s: s["observability"]["control_api"].update(address="0.0.0.0", port=moved)
            )
            assert (await ask(moved, f"{RUNTIME}/reload", "admin", {})).status == 200
            assert (await ask(moved, RUNTIME, "admin")).status == 200

            # Only from elsewhere: closed before TLS.
            proxy.write(
                lambda s: s["observability"]["control_api"].update(
                    ip_allowlist={"cidrs": ["192.0.2.0/24"]}
                )
            )
            assert (await ask(moved, f"{RUNTIME}/reload", "admin", {})).status == 200
            with pytest.raises(OSError, match=r"."):
                await ask(moved, "/health")
            await until(lambda: "source_ip_not_allowed" in proxy.log)
            proxy.write(lambda s: s["observability"].pop("control_api"))
            code, output = await proxy.command("reload")
            assert code == 0, output
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", moved))

    run(scenario)


def test_endpoints_are_where_the_configuration_puts_them_and_move_live(tmp_path: Path) -> None:
    def moved(settings: dict[str, Any]) -> None:
        api = settings["observability"]["control_api"]
        api |= {"port": port, "health_path": "/live", "reload_path": "/again"}
        api["authorization"] = {"protect_health": True}

    port = 0

    async def scenario() -> None:
        nonlocal port
        prepare = functools.partial(with_tokens, tmp_path)
        async with served(tmp_path, 1, prepare) as proxy:
            port = port_of(proxy)
            assert (await ask(port, "/health")).status == 200
            proxy.write(moved)
            assert (await ask(port, "/admin/runtime/reload", "operator", {})).status == 200
            assert (await ask(port, "/live")).status == 401
            assert (await ask(port, "/live", "viewer")).status == 200
            assert (await ask(port, "/health", "viewer")).status == 404
            assert (await ask(port, "/ready")).status == 200
            assert (await ask(port, "/again", "viewer", {})).status == 403
            assert (await ask(port, "/again", "operator", {})).status == 200
            assert (await ask(port, "/admin/runtime/reload", "operator", {})).status in (404, 405)
            paths = (await ask(port, "/openapi.json", "viewer")).json["paths"]
            assert {"/live", "/again"} <= paths.keys()
            assert not {"/health", "/admin/runtime/reload"} & paths.keys()
            # Commands ask on the socket, where nothing moves.
            code, output = await proxy.command("reload")
            assert code == 0, output

    run(scenario)


def test_a_renewed_certificate_of_the_first_listener_is_presented(tmp_path: Path) -> None:
    def change(settings: dict[str, Any]) -> None:
        with_tokens(tmp_path, settings)

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            port = port_of(proxy)
            before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            write(leaf(["localhost", "127.0.0.1"], ca()), tmp_path)
            after = before
            async with asyncio.timeout(30):
                while after == before:
                    await asyncio.sleep(0.5)
                    after = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            assert "asked by certificate watch" in proxy.log

    run(scenario)


def test_client_certificates_name_callers_and_a_token_must_be_of_the_same(tmp_path: Path) -> None:
    authority = ca()
    chains = {
        name: write(client_leaf(name, authority), tmp_path, name)
        for name in ("the-operator", "someone", "the-viewer")
    }
    authority_file, _ = write(authority, tmp_path, "authority")
    chains["a stranger"] = write(client_leaf("the-operator", ca()), tmp_path, "stranger")
    log = tmp_path / "audit.jsonl"

    def context(name: str | None) -> ssl.SSLContext:
        made = plain_context()
        if name is not None:
            made.load_cert_chain(*chains[name])
        return made

    def change(settings: dict[str, Any]) -> None:
        with_tokens(tmp_path, settings, audit={"sink": "file", "file_path": str(log)})
        api = settings["observability"]["control_api"]
        api["tls"] = {"client_auth": {"mode": "optional", "ca_file": str(authority_file)}}
        api["auth"]["identity_source"] = {"kind": "mtls_subject_cn"}
        api["auth"]["certificates"] = [
            {"name": "the-operator", "role": "admin"},
            {"name": "the-viewer", "role": "viewer"},
        ]

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            port = port_of(proxy)

            async def code(name: str | None, role: str | None, target: str, body: Any) -> Any:
                answer = await ask(port, target, role, body, context=context(name))
                return answer.json.get("code", answer.status)

            path = {"config_path": str(tmp_path / "nothing.yaml")}
            preview = f"{RUNTIME}/preview"
            assert await code("the-operator", None, preview, path) == "invalid"
            # Both: the lower role counts, and they must be of the same caller.
            assert await code("the-operator", "operator", preview, path) == "insufficient_role"
            assert await code("the-operator", "admin", RUNTIME, None) == "identity_mismatch"
            assert await code("the-viewer", None, f"{ONE}/drain", {}) == "insufficient_role"
            assert await code("someone", None, RUNTIME, None) == "unknown_certificate"
            assert await code(None, None, RUNTIME, None) == "missing_authentication"
            assert await code(None, "viewer", RUNTIME, None) == 200

            def require(settings: dict[str, Any]) -> None:
                api = settings["observability"]["control_api"]
                api["tls"]["client_auth"]["mode"] = "required"

            proxy.write(require)
            assert (await proxy.command("reload"))[0] == 0
            assert await code("the-operator", None, RUNTIME, None) == 200
            # Nobody is asked anything before TLS is made, and it is written down all the same.
            for name, cause in (
                (None, "peer did not return a certificate"),
                ("a stranger", "unable to get local issuer certificate"),
            ):
                with pytest.raises(OSError, match=r"."):
                    await code(name, "admin", RUNTIME, None)
                await until(lambda cause=cause: cause in log.read_text())
            lines = [one for one in audit(log) if one["code"] == "listener_tls"]
            assert [(one["action"], one["outcome"], one["peer"]) for one in lines] == [
                ("connect", "refused", "127.0.0.1")
            ] * 2

    run(scenario)


def test_callers_that_are_slow_many_or_long_winded_are_cut(tmp_path: Path) -> None:
    def change(settings: dict[str, Any]) -> None:
        with_tokens(tmp_path, settings, max_connections=2, connection_timeout_ms=700)

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            port = port_of(proxy)
            # Handshakes that never come are connections too.
            idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
            await until(lambda: _is_closed(port))
            for one in idle:
                one.close()
            await asyncio.sleep(0.5)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=plain_context(), server_hostname=""
            )
            writer.write(b"POST /admin/runtime/reload HTTP/1.1\r\nHost: x\r\n")
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
            large = await _settled(port, {"reason": "x" * 70_000})
            assert large.status == 413
            assert (await _settled(port, {"reason": "x" * 2_000})).status == 400
            assert (await _settled(port, ["x"])).status == 400
            assert (await _settled(port, {"nonsense": 1})).json["code"] == "refused"

    async def _settled(port: int, body: Any) -> Answer:
        return await ask(port, f"{RUNTIME}/reload", "admin", body)

    run(scenario)


def _is_closed(port: int) -> bool:
    """Return whether one more connection is closed at once."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.settimeout(0.5)
        try:
            return one.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True


def test_objects_are_read_one_by_one_and_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1) as proxy:
            client = await proxy.client("h2")
            waiting = asyncio.ensure_future(client.fetch("GET", "/wait"))
            await proxy.origin.gate.reached.wait()
            code, output = await proxy.command("backend", "list", "--json")
            assert code == 0, output
            (backend,) = json.loads(output)
            assert (backend["id"], backend["in_flight"], backend["state"]) == ("one", 1, "enabled")
            proxy.origin.gate.opened.set()
            await waiting
            assert (await proxy.command("backend", "weight", "backend", "one", "7"))[0] == 0
            code, output = await proxy.command("backend", "list", "backend")
            assert "one      enabled  7*      0" in output
            code, output = await proxy.command("backend", "list", "nothing")
            assert code == 1
            assert "no upstream 'nothing'" in output
            code, output = await proxy.command("workers", "--json")
            assert code == 0
            assert [one["pid"] for one in json.loads(output)] == proxy.workers
            code, output = await proxy.command("certs")
            assert code == 0
            assert "localhost" in output
            assert (await proxy.command("certs", "--within", "100000"))[0] == 3

    run(scenario)


def test_any_of_several_generations_may_be_expected_and_one_that_runs_is_planned(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, lambda settings: with_tokens(tmp_path, settings)) as proxy:
            port = port_of(proxy)

            async def reload(match: str) -> int:
                headers = {"If-Match": match}
                return (
                    await ask(port, f"{RUNTIME}/reload", "operator", {}, headers=headers)
                ).status

            assert await reload('"7", "1"') == 200
            assert await reload("*") == 200
            assert await reload('W/"1"') == 412
            assert await reload('"7", "8"') == 412
            assert await reload('"1') == 400
            preview = f"{RUNTIME}/preview"
            answer = await ask(port, preview, "operator", {"target_generation": 1})
            assert (answer.status, answer.json["changes"]) == (200, [])
            answer = await ask(port, preview, "operator", {"target_generation": 7})
            assert (answer.status, answer.json["code"]) == (404, "unknown_generation")
            nowhere = await ask(port, preview, "operator", {"rollback": True})
            assert (nowhere.status, nowhere.json["code"]) == (404, "unknown_generation")
            for going_back in ({"target_generation": 1}, {"rollback": True}):
                both = going_back | {"config_path": str(proxy.path)}
                for target in ("preview", "validate"):
                    answer = await ask(port, f"{RUNTIME}/{target}", "operator", both)
                    assert answer.status == 400

    run(scenario)


def test_what_runs_is_read_by_anybody_of_this_machine_if_nothing_else_is_said(
    tmp_path: Path,
) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["observability"] = {"control_api": {"enabled": True, "port": 0}}

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as proxy:
            port = port_of(proxy)
            assert (await ask(port, RUNTIME)).status == 200
            assert (await ask(port, f"{ONE}/drain", None, {})).json["code"] == "insufficient_role"
            assert (await ask(port, RUNTIME, "admin")).json["code"] == "invalid_bearer_token"

    run(scenario)
