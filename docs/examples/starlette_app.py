"""A Starlette application served over HTTP/3, HTTP/2 and HTTP/1.1 by a proxy in the same process.

Run it with ``python starlette_app.py`` and ask it with
``spooky request --insecure https://127.0.0.1:8443/hello/world``. A FastAPI application goes in its
place unchanged: both are ASGI.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import spooky
from spooky.edge.self_signed import self_signed


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open what the application needs; the proxy starts it before it serves."""
    app.state.greeting = "Hello"
    yield


async def hello(request: Request) -> JSONResponse:
    """Greet whoever asks."""
    name = request.path_params["name"]
    return JSONResponse({"greeting": f"{request.app.state.greeting}, {name}"})


async def count(request: Request) -> StreamingResponse:
    """Count, one number at a time; each is sent as it is made."""

    async def numbers() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(numbers(), media_type="text/plain")


application = Starlette(
    routes=[Route("/hello/{name}", hello), Route("/count", count)], lifespan=lifespan
)


def health(request: spooky.Request) -> spooky.Response:
    """Answer from a plain callable: an application need not be ASGI."""
    return spooky.Response(b"fine\n", headers=[("content-type", "text/plain")])


async def main(port: int) -> None:
    """Serve until cancelled."""
    with tempfile.TemporaryDirectory() as directory:
        made = self_signed()
        certificate, key = Path(directory, "cert.pem"), Path(directory, "key.pem")
        certificate.write_bytes(made.certificate)
        key.write_bytes(made.key)
        configuration = {
            "version": 1,
            "listen": {
                "address": "127.0.0.1",
                "port": port,
                "tls": {"cert": str(certificate), "key": str(key)},
            },
            "upstream": {
                "site": {
                    "route": {"path_prefix": "/"},
                    "backends": [{"id": "site", "address": "app:site"}],
                },
                "health": {
                    "route": {"path_prefix": "/healthz"},
                    "backends": [{"id": "health", "address": "app:health"}],
                },
            },
        }
        apps = {"site": application, "health": health}
        async with spooky.Proxy(configuration, apps=apps) as proxy:
            print(f"serving on https://127.0.0.1:{proxy.port}/", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8443))
