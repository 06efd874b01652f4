"""What the control API over TCP must and must not be told."""

import re
from typing import Any

import pytest
import yaml

from spooky.config.control_api import PATHS
from spooky.config.loading import diagnose_text
from spooky.control.endpoints import ENDPOINTS
from tests.config.support import minimal

TOKEN = {"actor_id": "ci", "token_file": "ci.token"}
TOKENS = {"bearer_tokens": [TOKEN]}
CERTIFICATES = {"certificates": [{"name": "ops"}]}
MUTUAL = {"client_auth": {"mode": "required", "ca_file": "ca.pem"}}


def problems(**api: Any) -> list[tuple[str, str]]:
    """Return where and what is wrong with a control API."""
    more = yaml.safe_dump({"observability": {"control_api": {"enabled": True, **api}}})
    found = diagnose_text(minimal(more=more)).problems
    prefix = "observability.control_api."
    return [(one.path.removeprefix(prefix), one.message) for one in found if one.path]


@pytest.mark.parametrize(
    "api",
    [
        {},
        {"address": "::1"},
        {"address": "0.0.0.0", "auth": TOKENS},
        {"address": "192.0.2.1", "auth": CERTIFICATES, "tls": MUTUAL},
        {"enabled": False, "address": "0.0.0.0"},
        {"ip_allowlist": {"cidrs": ["10.0.0.0/8", "fd00::/8", "192.0.2.1"]}},
        {"audit": {"sink": "file", "file_path": "audit.log"}},
        {"health_path": "/live", "ready_path": "/health", "restart_path": "/admin/runtime/reload",
         "reload_path": "/admin/runtime/restart"},
    ],
)  # fmt: skip
def test_what_is_right_is_accepted(api: dict[str, Any]) -> None:
    assert problems(**api) == []


@pytest.mark.parametrize(
    ("api", "path", "message"),
    [
        ({"address": "0.0.0.0"}, "address", "asks nobody who they are"),
        ({"address": "example.com"}, "address", "example.com"),
        ({"enabled": False, "required": True}, "required", "not enabled"),
        ({"tls": {"cert": "c.pem"}}, "tls", "key is missing"),
        ({"tls": {"client_auth": {"mode": "required"}}, "auth": CERTIFICATES},
         "tls.client_auth.ca_file", "nothing says which count"),
        ({"tls": MUTUAL}, "tls.client_auth.mode", "no certificate has a role"),
        ({"auth": CERTIFICATES}, "auth.certificates", "no caller is asked for a certificate"),
        ({"auth": CERTIFICATES,
          "tls": {"client_auth": {"mode": "optional", "ca_file": "ca.pem"}}},
         "tls.client_auth.mode", "no token to show instead"),
        ({"auth": {"bearer_tokens": [TOKEN, TOKEN]}}, "auth.bearer_tokens[1]", "there twice"),
        ({"ip_allowlist": {"cidrs": ["10.0.0.1/8"]}}, "ip_allowlist.cidrs[0]", "not a network"),
        ({"ip_allowlist": {"cidrs": ["::/1"]}}, "ip_allowlist.cidrs[0]", "all IPv4 addresses"),
        ({"health_path": "live"}, "health_path", "not a path"),
        ({"ready_path": "/a/../b"}, "ready_path", "not a path"),
        ({"reload_path": "/{it}"}, "reload_path", "not a path"),
        ({"health_path": "/status"}, "health_path", "other endpoints"),
        ({"runtime_path": "/admin/runtime/history"}, "runtime_path", "other endpoints"),
        ({"ready_path": "/health"}, "ready_path", "health_path is"),
        ({"audit": {"sink": "file"}}, "audit.file_path", "has no file"),
        ({"audit": {"file_path": "a.log"}}, "audit.file_path", "would not be written"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(api: dict[str, Any], path: str, message: str) -> None:
    ((found, text),) = problems(**api)
    assert found == path
    assert message in text


def test_no_other_endpoint_is_where_one_may_be_put() -> None:
    others = [each.path for each in ENDPOINTS if each.name not in PATHS]
    for path in others:
        text = re.sub(r"\{.*?\}", "x", path)
        assert problems(health_path=text) == [("health_path", f'other endpoints are at "{text}"')]
    by_name = {each.name: each.path for each in ENDPOINTS}
    assert {name: by_name[name] for name in PATHS} == PATHS
