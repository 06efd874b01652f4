"""Real backends: nginx, Caddy, an ASGI server, a gRPC server, each through HTTP/3."""

import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from curl_cffi import CurlHttpVersion
from curl_cffi.requests import Session

from tests.certificates import Credentials, ca, leaf, write
from tests.interop.conftest import program, running_program
from tests.interop.serving import Serving, serving
from tests.support.ports import free_port

FILE = b"0123456789abcdef" * 4096
PAGE = "/file.bin"


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[str]:
    """nginx over HTTP/1.1."""
    port = free_port()
    (directory / "www").mkdir()
    (directory / "www" / "file.bin").write_bytes(FILE)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        textwrap.dedent(
            f"""
            daemon off; pid {directory}/nginx.pid; error_log stderr;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{}}
            http {{
              access_log off;
              client_body_temp_path {directory}/body;
              proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
              uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
              server {{
                listen 127.0.0.1:{port};
                root {directory}/www;
                location /who {{ return 200 "$http_x_forwarded_for $server_protocol"; }}
              }}
            }}
            """
        )
    )
    arguments = [program("nginx"), "-c", str(configuration), "-p", str(directory)]
    with running_program(arguments, port, directory / "nginx.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def caddy(directory: Path, authority: Credentials | None = None) -> Iterator[str]:
    """Caddy over HTTP/2 with TLS, and over HTTP/3."""
    port = free_port()
    (directory / "file.bin").write_bytes(FILE)
    certificate, key = write(
        leaf(["127.0.0.1", "localhost"], authority or ca()), directory, "caddy"
    )
    configuration = directory / "Caddyfile"
    configuration.write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https disable_redirects
              skip_install_trust
              default_sni localhost
            }}
            https://localhost:{port}, https://127.0.0.1:{port} {{
              tls {certificate} {key}
              root * {directory}
              respond /who "{{header.X-Forwarded-For}} {{http.request.proto}}"
              file_server
            }}
            """
        )
    )
    arguments = [program("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with running_program(arguments, port, directory / "caddy.log"):
        yield f"https://127.0.0.1:{port}"


@contextlib.contextmanager
def hypercorn(directory: Path) -> Iterator[str]:
    """A Starlette application on Hypercorn, over HTTP/1.1."""
    port = free_port()
    (directory / "application.py").write_text(
        textwrap.dedent(
            """
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse, Response
            from starlette.routing import Route

            async def file(request):
                return Response(b"0123456789abcdef" * 4096)

            async def who(request):
                forwarded = request.headers["x-forwarded-for"]
                return PlainTextResponse(f"{forwarded} HTTP/{request.scope['http_version']}")

            async def echo(request):
                return Response(await request.body())

            app = Starlette(
                routes=[
                    Route("/file.bin", file),
                    Route("/who", who),
                    Route("/echo", echo, methods=["POST"]),
                ]
            )
            """
        )
    )
    arguments = [sys.executable, "-m", "hypercorn", "application:app"]
    arguments += ["--bind", f"127.0.0.1:{port}"]
    with running_program(arguments, port, directory / "hypercorn.log"):
        yield f"http://127.0.0.1:{port}"


Start = Callable[[Path], contextlib.AbstractContextManager[str]]

BACKENDS: dict[str, tuple[Start, str, dict[str, Any]]] = {
    "nginx": (nginx, "HTTP/1.1", {}),
    "caddy": (caddy, "HTTP/2.0", {}),
    "caddy-h3": (caddy, "HTTP/3.0", {"protocol": "http3"}),
    "hypercorn": (hypercorn, "HTTP/1.1", {}),
}


@pytest.fixture(params=BACKENDS)
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Serving, str]]:
    """A proxy in front of each real backend, and the protocol spoken to it."""
    start, protocol, upstream = BACKENDS[request.param]
    (tmp_path / "backend").mkdir()
    with (
        start(tmp_path / "backend") as address,
        serving(tmp_path, address, upstream=upstream) as proxy,
    ):
        yield proxy, protocol


def test_files_and_forwarding_through_http3(proxied: tuple[Serving, str]) -> None:
    proxy, protocol = proxied
    with Session(verify=str(proxy.authority), http_version=CurlHttpVersion.V3ONLY) as session:
        for _ in range(3):
            response = session.get(f"{proxy.url}{PAGE}")
            assert (response.status_code, response.content) == (200, FILE)
            assert response.http_version == CurlHttpVersion.V3
        assert session.get(f"{proxy.url}/who").text == f"127.0.0.1 {protocol}"
        head = session.head(f"{proxy.url}{PAGE}")
        assert head.headers["content-length"] == str(len(FILE))
        assert session.get(f"{proxy.url}/missing").status_code == 404
    lines = proxy.log_lines(6)
    assert {line["protocol"] for line in lines} == {"h3"}
    assert {line["reason"] for line in lines} == {"completed"}


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_a_grpc_server_through_http2(tmp_path: Path, tls: bool) -> None:
    """Unary and streaming calls in both directions, and a status that is not OK."""

    def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata([("x-trailer", "yes")])
        return request.upper()

    def both_ways(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def failing(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "BothWays": grpc.stream_stream_rpc_method_handler(both_ways),
        "Failing": grpc.unary_unary_rpc_method_handler(failing),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    if tls:
        credentials = leaf(["localhost", "127.0.0.1"], ca())
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials([(credentials.key_pem, credentials.certificate_pem)]),
        )
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        with serving(tmp_path, address, upstream={"protocol": "http2"}) as proxy:
            trust = grpc.ssl_channel_credentials(proxy.authority.read_bytes())
            with grpc.secure_channel(f"localhost:{proxy.port}", trust) as channel:
                call = channel.unary_unary("/test.Echo/Unary")
                answer, details = call.with_call(b"hello", timeout=10)
                assert answer == b"HELLO"
                assert ("x-trailer", "yes") in [tuple(item) for item in details.trailing_metadata()]
                stream = channel.stream_stream("/test.Echo/BothWays")
                messages = [b"message %d" % number for number in range(50)]
                answers = list(stream(iter(messages), timeout=10))
                assert answers == [message.upper() for message in messages]
                with pytest.raises(grpc.RpcError) as failure:
                    channel.unary_unary("/test.Echo/Failing")(b"x", timeout=10)
                assert failure.value.code() is grpc.StatusCode.NOT_FOUND
                assert failure.value.details() == "no such thing"
    finally:
        server.stop(0).wait()


def test_a_real_http3_backend_whose_certificate_is_verified(tmp_path: Path) -> None:
    """quic-go, to which confined workers send uploads too."""
    (tmp_path / "backend").mkdir()
    authority = ca()
    (tmp_path / "authority.pem").write_bytes(authority.certificate_pem)
    tls = {"ca_file": str(tmp_path / "authority.pem")}
    with (
        caddy(tmp_path / "backend", authority) as address,
        serving(tmp_path, address, upstream={"protocol": "http3", "tls": tls}) as proxy,
    ):
        with Session(verify=str(proxy.authority), http_version=CurlHttpVersion.V3ONLY) as session:
            assert session.get(f"{proxy.url}{PAGE}").content == FILE
            assert session.post(f"{proxy.url}/who", data=FILE).text.endswith("HTTP/3.0")
        assert {line["upstream_protocol"] for line in proxy.log_lines(2)} == {"h3"}
