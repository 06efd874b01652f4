"""A slow reader slows its writer: memory is bounded by windows, whatever the size of a body.

The proxy is its own process; what counts is how its resident memory grows during a transfer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from curl_cffi import Curl, CurlHttpVersion, CurlOpt

from tests.interop.serving import Serving, serving
from tests.support.client import Client
from tests.support.proxy import connect

pytestmark = pytest.mark.interop  # curl is one of the clients

MIB = 1024 * 1024
GROWTH_MAX_BYTES = 16 * MIB

# Body size, the slow side's rate, and for how long it is slow; then it takes all it can get.
SHORT = (32 * MIB, MIB, 6.0)
FULL = (1024 * MIB, MIB, float("inf"))
SIZES = [
    pytest.param(SHORT, id="short", marks=pytest.mark.timeout(120)),
    pytest.param(FULL, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
]
CURL_VERSIONS = {
    "h3": CurlHttpVersion.V3ONLY,
    "h2": CurlHttpVersion.V2TLS,
    "h1": CurlHttpVersion.V1_1,
}


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no resident memory")


class Peak:
    """Watches the memory of the proxy."""

    def __init__(self, proxy: Serving) -> None:
        (self._pid,) = proxy.worker_pids
        self._before = resident_bytes(self._pid)
        self.growth = 0

    async def watch(self) -> None:
        while True:
            self.growth = max(self.growth, resident_bytes(self._pid) - self._before)
            await asyncio.sleep(0.1)


class SlowBackend:
    """Reads uploads, or writes downloads; over HTTP/1.1."""

    def __init__(self, size: int, rate: int, seconds: float) -> None:
        self.size, self.rate, self.seconds = size, rate, seconds
        self.received = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % self.size)
            with contextlib.suppress(ConnectionError):
                for _ in range(self.size // 65536):
                    writer.write(b"x" * 65536)
                    await writer.drain()
            return
        started = time.monotonic()
        while self.received < self.size:
            self.received += len(await reader.read(65536))
            elapsed = time.monotonic() - started
            if elapsed < self.seconds:
                await asyncio.sleep(max(0.0, self.received / self.rate - elapsed))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=65536)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def upload(client: Client, size: int) -> int:
    """Send a body, and return the status."""
    stream = await client.open("POST", "/", [(b"content-length", b"%d" % size)], end=False)
    for start in range(0, size, MIB):
        await stream.send(b"x" * MIB, end=start + MIB >= size)
    return (await stream.whole()).status


def download(url: str, ingress: str, rate: int, seconds: float) -> int:
    """Read a body slowly with curl, and return its size."""
    received = 0
    started = time.monotonic()
    curl = Curl()

    def on_data(data: bytes) -> int:
        nonlocal received
        received += len(data)
        elapsed = time.monotonic() - started
        if elapsed < seconds:
            time.sleep(max(0.0, received / rate - elapsed))
        return len(data)

    curl.setopt(CurlOpt.URL, url.encode())
    curl.setopt(CurlOpt.HTTP_VERSION, CURL_VERSIONS[ingress])
    curl.setopt(CurlOpt.SSL_VERIFYPEER, 0)
    curl.setopt(CurlOpt.SSL_VERIFYHOST, 0)
    curl.setopt(CurlOpt.WRITEFUNCTION, on_data)
    curl.perform()
    curl.close()
    return received


# The kernel's buffers hold what the backend still has to read when the proxy has sent it all.
TIMEOUTS = {
    "client_body_idle_timeout_ms": 600_000,
    "backend_body_idle_timeout_ms": 600_000,
    "backend_timeout_ms": 600_000,
}


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_an_upload_to_a_slow_backend_holds_the_workers_growth_down(
    tmp_path: Path, ingress: str, shape: tuple[int, int, float]
) -> None:
    async def scenario() -> None:
        backend = SlowBackend(*shape)
        async with backend.listening() as address:
            with serving(tmp_path, address, performance=TIMEOUTS) as proxy:
                client = await connect(ingress, proxy.port)
                peak = Peak(proxy)
                watching = asyncio.ensure_future(peak.watch())
                assert await upload(client, shape[0]) == 200
                watching.cancel()
                await client.close()
                assert backend.received == shape[0]
                assert peak.growth < GROWTH_MAX_BYTES

    asyncio.run(scenario())


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("ingress", ["h3", "h2", "h1"])
def test_a_download_by_a_slow_client_holds_the_workers_growth_down(
    tmp_path: Path, ingress: str, shape: tuple[int, int, float]
) -> None:
    size, rate, seconds = shape

    async def scenario() -> None:
        async with SlowBackend(*shape).listening() as address:
            with serving(tmp_path, address, performance=TIMEOUTS) as proxy:
                peak = Peak(proxy)
                watching = asyncio.ensure_future(peak.watch())
                received = await asyncio.to_thread(download, proxy.url, ingress, rate, seconds)
                watching.cancel()
                assert received == size
                assert peak.growth < GROWTH_MAX_BYTES

    asyncio.run(scenario())
