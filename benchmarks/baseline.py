"""Requests per CPU-second of Spooky and of Caddy over HTTP/3, in one run.

Both proxy to the same nginx over HTTP/1.1; 10 connections with 10 streams each ask for a file. What
counts is the CPU time of the proxy's process, so the load generator need not be fast. The proxies
take turns, and medians are printed.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.certificates import ca, leaf, write
from tests.interop.conftest import free_port, program, running_program
from tests.interop.serving import serving
from tests.support.client import Http3Client

CONNECTIONS = 10
STREAMS = 10
SIZES = {"1 KiB": 1024, "64 KiB": 65536}
PROXY_CPU, LOAD_CPU = "0", "1"


@dataclass
class Proxy:
    """A proxy under load."""

    name: str
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time its process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[str]:
    """Serve the files over HTTP/1.1."""
    port = free_port()
    for size in SIZES.values():
        (directory / str(size)).write_bytes(b"x" * size)
    configuration = directory / "nginx.conf"
    configuration.write_text(
        textwrap.dedent(
            f"""
            daemon off; pid {directory}/nginx.pid; error_log stderr; worker_processes 1;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{ worker_connections 4096; }}
            http {{
              access_log off; keepalive_requests 1000000;
              client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
              fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
              scgi_temp_path {directory}/s;
              server {{ listen 127.0.0.1:{port}; root {directory}; }}
            }}
            """
        )
    )
    arguments = ["taskset", "-c", LOAD_CPU, program("nginx"), "-c", str(configuration)]
    with running_program([*arguments, "-p", str(directory)], port, directory / "nginx.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def caddy(directory: Path, backend: str) -> Iterator[Proxy]:
    """Caddy as an HTTP/3 proxy on one core."""
    port = free_port()
    certificate, key = write(leaf(["localhost"], ca()), directory, "caddy")
    configuration = directory / "Caddyfile"
    configuration.write_text(
        textwrap.dedent(
            f"""
            {{
              admin off
              auto_https disable_redirects
              skip_install_trust
            }}
            https://localhost:{port} {{
              tls {certificate} {key}
              reverse_proxy {backend}
            }}
            """
        )
    )
    arguments = ["taskset", "-c", PROXY_CPU, program("caddy"), "run", "--adapter", "caddyfile"]
    arguments += ["--config", str(configuration)]
    with running_program(arguments, port, directory / "caddy.log") as process:
        yield Proxy("Caddy", process.pid, port)


async def load(port: int, path: str, seconds: float) -> int:
    """Keep every stream of every connection busy, and return how many requests completed."""
    completed = 0
    clients = [await Http3Client.connect(port) for _ in range(CONNECTIONS)]
    deadline = time.monotonic() + seconds

    async def one_stream(client: Http3Client) -> None:
        nonlocal completed
        while time.monotonic() < deadline:
            response = await client.fetch("GET", path)
            if response.status != 200 or response.cut is not None:
                raise RuntimeError(f"{response.status} {response.cut}")
            completed += 1

    await asyncio.gather(*(one_stream(client) for client in clients for _ in range(STREAMS)))
    for client in clients:
        await client.close()
    return completed


def measure(proxy: Proxy, size: int, seconds: float) -> float:
    """Return requests per CPU-second of the proxy."""
    before = proxy.cpu_seconds()
    completed = uvloop.run(load(proxy.port, f"/{size}", seconds))
    return completed / (proxy.cpu_seconds() - before)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each proxy")
    parser.add_argument("--seconds", type=float, default=4.0, help="load in each turn")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CPU)})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        for part in ("nginx", "caddy", "spooky"):
            (directory / part).mkdir()
        directory.chmod(0o755)
        backend = stack.enter_context(nginx(directory / "nginx"))
        ours = stack.enter_context(
            serving(directory / "spooky", backend, access_log={"enabled": False})
        )
        (worker,) = ours.worker_pids
        subprocess.run(["taskset", "-cp", PROXY_CPU, str(worker)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        proxies = [
            Proxy("Spooky", worker, ours.port),
            stack.enter_context(caddy(directory / "caddy", backend)),
        ]
        for label, size in SIZES.items():
            results: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
            for _ in range(arguments.rounds):
                for proxy in proxies:
                    results[proxy.name].append(measure(proxy, size, arguments.seconds))
            medians = {name: statistics.median(values) for name, values in results.items()}
            for name, rate in medians.items():
                print(
                    f"{label} GET  {name:7} {rate:8.0f} requests per CPU-second "
                    f"{rate * size / 1e6:8.1f} MB per CPU-second"
                )
            print(f"{label} GET  Spooky / Caddy: {medians['Spooky'] / medians['Caddy']:.2f}")


if __name__ == "__main__":
    main()
