"""Asking a running Spooky over TCP, as programs on other machines do."""

import asyncio
import http.client
import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.control.serve import Served
from tests.support.tls import plain_context

PORT = re.compile(r"the control API is on 127\.0\.0\.1 port (\d+)")
TOKENS = {role: f"{role}-" + "0123456789abcdef" * 4 for role in ("viewer", "operator", "admin")}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    json: Any
    text: str = ""


def port_of(proxy: Served) -> int:
    """Return the port that the control API has now."""
    return int(PORT.findall(proxy.log)[-1])


def write_token(directory: Path, role: str) -> str:
    """Write the file of a token, and return its path."""
    path = directory / f"{role}.token"
    path.write_text(TOKENS[role] + "\n")
    path.chmod(0o600)
    return str(path)


def with_tokens(directory: Path, settings: dict[str, Any], **more: Any) -> None:
    """Enable the control API, with a token for each role."""
    tokens = [
        {"actor_id": f"the-{role}", "token_file": write_token(directory, role), "role": role}
        for role in TOKENS
    ]
    api = {"enabled": True, "port": 0, "auth": {"bearer_tokens": tokens}, **more}
    settings.setdefault("observability", {})["control_api"] = api


async def ask(
    port: int,
    target: str,
    role: str | None = None,
    body: Any = None,
    *,
    context: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask once, on a connection of its own; a POST if there is a body."""
    return await asyncio.to_thread(_ask, port, target, role, body, context, headers or {})


def _ask(
    port: int,
    target: str,
    role: str | None,
    body: Any,
    context: ssl.SSLContext | None,
    headers: dict[str, str],
) -> Answer:
    if role is not None:
        headers = {**headers, "Authorization": f"Bearer {TOKENS.get(role, role)}"}
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=30, context=context or plain_context()
    )
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", target, content, headers)
        response = connection.getresponse()
        text = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = "json" in found.get("content-type", "")
        return Answer(
            response.status, found, json.loads(text) if text and is_json else None, text.decode()
        )
    finally:
        connection.close()
