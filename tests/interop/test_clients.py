"""Real clients: curl, Chromium, Caddy (quic-go) and Envoy (QUICHE), all over HTTP/3."""

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from curl_cffi import CurlHttpVersion
from curl_cffi.requests import Session

from tests.interop.conftest import program, running_program
from tests.interop.serving import Serving, serving
from tests.support.ports import free_port
from tests.support.scraping import sums

BROWSER_SECONDS = 60

PAGE = """<!doctype html>
<html><head><title>page</title>
<link rel="stylesheet" href="/style.css">
<script src="/script.js"></script>
</head><body><img src="/picture.svg" alt=""><pre id="protocols">waiting</pre>
<script>
addEventListener("load", async () => {
  const fetched = await (await fetch("/data.json")).json();
  const entries = performance.getEntriesByType("resource")
    .concat(performance.getEntriesByType("navigation"));
  document.getElementById("protocols").textContent = JSON.stringify({
    fetched: fetched.answer,
    styled: getComputedStyle(document.body).color,
    scripted: window.scripted,
    protocols: entries.map(entry => [new URL(entry.name).pathname, entry.nextHopProtocol]),
  });
});
</script></body></html>
"""
FILES = {
    "index.html": PAGE,
    "style.css": "body { color: rgb(1, 2, 3); }",
    "script.js": "window.scripted = 'yes';",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>',
    "data.json": '{"answer": 42}',
}


@contextlib.contextmanager
def site_served(tmp_path: Path, **sections: Any) -> Iterator[Serving]:
    """A proxy in front of Caddy with a page and its parts."""
    site = tmp_path / "site"
    site.mkdir()
    for name, content in FILES.items():
        (site / name).write_text(content)
    (site / "large.bin").write_bytes(b"0123456789abcdef" * 65536)
    port = free_port()
    (tmp_path / "Caddyfile").write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https off
            }}
            http://:{port} {{
              bind 127.0.0.1
              root * {site}
              @upload path /upload
              respond @upload "{{http.request.header.Content-Length}} {{http.request.method}}"
              file_server
            }}
            """
        )
    )
    arguments = [program("caddy"), "run", "--adapter", "caddyfile"]
    arguments += ["--config", str(tmp_path / "Caddyfile")]
    with (
        running_program(arguments, port, tmp_path / "backend.log"),
        serving(tmp_path, f"http://127.0.0.1:{port}", **sections) as running,
    ):
        yield running


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Serving]:
    with site_served(tmp_path) as running:
        yield running


def test_curl(proxy: Serving) -> None:
    """libcurl on ngtcp2 and nghttp3, and the same client on TCP."""
    with Session(verify=str(proxy.authority), http_version=CurlHttpVersion.V3ONLY) as session:
        response = session.get(f"{proxy.url}/data.json")
        assert response.http_version == CurlHttpVersion.V3
        assert response.json() == {"answer": 42}
        assert len(session.get(f"{proxy.url}/large.bin").content) == 1024 * 1024
        body = b"x" * 300_000
        assert session.post(f"{proxy.url}/upload", data=body).text == "300000 POST"
    for version, expected in [
        (CurlHttpVersion.V2TLS, CurlHttpVersion.V2_0),
        (CurlHttpVersion.V1_1, CurlHttpVersion.V1_1),
    ]:
        with Session(verify=str(proxy.authority), http_version=version) as session:
            response = session.get(f"{proxy.url}/data.json")
            assert response.http_version == expected
            assert response.headers["alt-svc"] == f'h3=":{proxy.port}"; ma=86400'


def test_chromium_loads_a_page_and_its_parts_over_http3(proxy: Serving, tmp_path: Path) -> None:
    load_in_chromium(proxy, tmp_path)


def load_in_chromium(proxy: Serving, tmp_path: Path) -> None:
    """Open the page, and see that all of it came over HTTP/3 and worked."""
    certificate = x509.load_pem_x509_certificate(proxy.certificate.read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    trusted = base64.b64encode(hashlib.sha256(key).digest()).decode()
    done = subprocess.run(
        [
            program("chromium-headless-shell"),
            "--no-sandbox",
            "--disable-gpu",
            "--enable-quic",
            "--host-resolver-rules=MAP spooky.test 127.0.0.1",
            f"--origin-to-force-quic-on=spooky.test:{proxy.port}",
            f"--ignore-certificate-errors-spki-list={trusted}",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"https://spooky.test:{proxy.port}/index.html",
        ],
        capture_output=True,
        text=True,
        timeout=BROWSER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = done.stdout.partition('<pre id="protocols">')[2].partition("</pre>")[0]
    seen = json.loads(report)
    assert seen["fetched"] == 42
    assert seen["styled"] == "rgb(1, 2, 3)"
    assert seen["scripted"] == "yes"
    protocols = dict(seen["protocols"])
    paths = ("/index.html", "/style.css", "/script.js", "/picture.svg", "/data.json")
    assert {path: protocols.get(path) for path in paths} == dict.fromkeys(paths, "h3")
    assert {line["protocol"] for line in proxy.log_lines(5)} == {"h3"}


def test_chromium_and_curl_prove_their_address_when_asked(tmp_path: Path) -> None:
    """RFC 9000 section 8.1.2: with ``quic_retry: always`` nobody is served without a Retry."""
    metrics = free_port()
    with site_served(
        tmp_path,
        performance={"quic_retry": "always"},
        observability={"metrics": {"enabled": True, "port": metrics}},
    ) as proxy:
        load_in_chromium(proxy, tmp_path)
        with Session(verify=str(proxy.authority), http_version=CurlHttpVersion.V3ONLY) as session:
            assert session.get(f"{proxy.url}/data.json").json() == {"answer": 42}
        page = fetch(metrics, "/metrics").decode()
        connections = sums(page, "spooky_connections_total", transport="quic")
        accepted = "spooky_address_tokens_accepted_total"
        proven = [sums(page, accepted, **{"from": kind}) for kind in ("retry", "new_token")]
        assert proven[0] >= 2
        assert sum(proven) == connections


def test_curl_goes_on_at_once_when_the_worker_of_its_connection_died(proxy: Serving) -> None:
    """RFC 9000 section 10.3: it heeds the successor's stateless reset, and connects anew."""
    with Session(verify=str(proxy.authority), http_version=CurlHttpVersion.V3ONLY) as session:
        assert session.get(f"{proxy.url}/data.json").json() == {"answer": 42}
        for pid in proxy.worker_pids:
            os.kill(pid, signal.SIGKILL)
        # Without the reset it waits for an answer until the connection is idle: 30 s.
        again = session.get(f"{proxy.url}/data.json", timeout=20)
        assert again.json() == {"answer": 42}


def fetch(port: int, path: str, body: bytes | None = None) -> bytes:
    """Ask a cleartext proxy on loopback."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    with urllib.request.urlopen(request, timeout=10) as response:
        content: bytes = response.read()
        return content


def check_through(port: int, proxy: Serving) -> None:
    """Send requests through another proxy that speaks HTTP/3 to ours."""
    assert json.loads(fetch(port, "/data.json")) == {"answer": 42}
    assert len(fetch(port, "/large.bin")) == 1024 * 1024
    assert fetch(port, "/upload", b"x" * 100_000).endswith(b"POST")
    for _ in range(20):
        assert fetch(port, "/script.js") == FILES["script.js"].encode()
    lines = proxy.log_lines(23)
    assert {line["protocol"] for line in lines} == {"h3"}
    assert {line["reason"] for line in lines} == {"completed"}


def test_caddy_as_a_client(proxy: Serving, tmp_path: Path) -> None:
    """quic-go."""
    port = free_port()
    configuration = tmp_path / "Caddyfile.client"
    configuration.write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https off
            }}
            http://127.0.0.1:{port} {{
              bind 127.0.0.1
              reverse_proxy https://localhost:{proxy.port} {{
                header_up Host localhost:{proxy.port}
                transport http {{
                  versions 3
                  tls_trust_pool file {proxy.authority}
                }}
              }}
            }}
            """
        )
    )
    arguments = [program("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with running_program(arguments, port, tmp_path / "client.log"):
        check_through(port, proxy)


def test_envoy_as_a_client(proxy: Serving, tmp_path: Path) -> None:
    """QUICHE."""
    port = free_port()
    upstream_tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3."
        "QuicUpstreamTransport",
        "upstream_tls_context": {
            "sni": "localhost",
            "common_tls_context": {
                "validation_context": {"trusted_ca": {"filename": str(proxy.authority)}}
            },
        },
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        },
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "spooky"}}],
                }
            ]
        },
    }
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http3_protocol_options": {}},
    }
    configuration = {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "spooky",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
                    },
                    "transport_socket": {
                        "name": "envoy.transport_sockets.quic",
                        "typed_config": upstream_tls,
                    },
                    "load_assignment": {
                        "cluster_name": "spooky",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {
                                                "socket_address": {
                                                    "address": "127.0.0.1",
                                                    "port_value": proxy.port,
                                                }
                                            }
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                }
            ],
        }
    }
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps(configuration))
    arguments = [program("envoy"), "-c", str(path), "--log-level", "warn"]
    arguments += ["--use-dynamic-base-id", "--concurrency", "1"]
    with running_program(arguments, port, tmp_path / "envoy.log"):
        check_through(port, proxy)
