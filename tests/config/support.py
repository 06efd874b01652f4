"""Configurations for tests, and what is said of them."""

import copy
import textwrap
from typing import Any

from spooky.config import Problem, diagnose_text

GOOD = """\
version: 1
listen:
  protocol: http3
  address: 127.0.0.1
  port: 8443
  tls:
    cert: cert.pem
    key: key.pem
    certificates:
      - server_name: a.example
        cert: a.pem
        key: a.key
    client_auth:
      enabled: true
      require_client_cert: true
      ca_file: ca.pem
    strict_sni: false
upstream:
  api:
    route:
      host: api.example.com
      path_prefix: /v1
      method: GET
    backends:
      - id: api-1
        address: http://10.0.0.1:8080
        weight: 100
      - id: api-2
        address: https://[2001:db8::1]:8443
    protocol: auto
    load_balancing:
      type: consistent-hash
      key: header:x-user
      balance_factor: 1.25
    host_policy:
      mode: rewrite
      host: internal.example.com:8443
    forwarded_headers:
      mode: append
    tls:
      verify_certificates: true
      strict_sni: true
      ca_file: ca.pem
      ca_dir: authorities
      client_certificate: client.pem
      client_key: client.key
  web:
    route:
      path_prefix: /
    backends:
      - id: web-1
        address: backend.example.com
load_balancing:
  type: least-request
upstream_tls:
  verify_certificates: true
log:
  level: info
  format: json
  file:
    enabled: true
    path: spooky.log
access_log:
  enabled: true
  format: json
  path: access.log
performance:
  backend_timeout_ms: 2000
  max_request_body_bytes: null
  quic_engine: aioquic
resilience:
  protocol:
    max_headers_count: 100
    allow_0rtt: false
    early_data_safe_methods: [GET]
    allowed_methods: [GET, POST]
    denied_path_prefixes: [/admin]
"""
"""Uses something of every section."""


def minimal(upstream: str = "", more: str = "") -> str:
    """Return a good text to which keys of the one upstream, or of the whole, can be added."""
    return (
        "listen:\n  tls: {cert: cert.pem, key: key.pem}\n"
        "upstream:\n  api:\n"
        + textwrap.indent(
            upstream
            or "route: {path_prefix: /}\nbackends: [{id: a, address: 'http://127.0.0.1:80'}]",
            "    ",
        )
        + "\n"
        + more
    )


def with_backend(backend: str) -> str:
    """Return a good text but for a backend."""
    return minimal(f"route: {{path_prefix: /}}\nbackends:\n  - {backend}")


def problems(text: str, apps: tuple[str, ...] = ()) -> list[Problem]:
    return diagnose_text(text, "test.yaml", apps).problems


def only(text: str, apps: tuple[str, ...] = ()) -> Problem:
    """Return the one problem of a text."""
    (problem,) = problems(text, apps)
    return problem


def where(problem: Problem) -> tuple[int | None, int | None, str]:
    return problem.line, problem.column, problem.path


def marked(text: str) -> tuple[str, int, int]:
    """Return a text without its ⟦ mark, and the line and column of what the mark stood before."""
    before, mark, after = text.partition("⟦")
    assert mark, "there is no mark"
    lines = before.split("\n")
    return before + after, len(lines), len(lines[-1]) + 1


DELETE = object()
"""Stands for the removal of a key."""


def edited(mapping: dict[str, Any], *edits: tuple[str, Any]) -> dict[str, Any]:
    """Return a mapping after edits; a path has its steps between slashes."""
    result = copy.deepcopy(mapping)
    for path, value in edits:
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        place: Any = result
        for step in way:
            place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
        if value is DELETE:
            del place[last]
        else:
            place[last] = value
    return result
