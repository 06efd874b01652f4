"""The demo: a proxy in front of an embedded backend, and one real request over HTTP/3."""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop

import spooky
from spooky.edge.self_signed import self_signed

PAGE = b"Hello from behind Spooky.\n"
REQUEST_TIMEOUT_SECONDS = 15


def backend(request: spooky.Request) -> spooky.Response:
    """Answer every request with a greeting."""
    return spooky.Response(
        PAGE + f"You asked for {request.method} {request.path}\n".encode(),
        headers=[("content-type", "text/plain; charset=utf-8")],
    )


def configuration(port: int, certificate: Path, key: Path) -> dict[str, object]:
    """Return what the demo serves."""
    return {
        "version": 1,
        "listen": {
            "address": "127.0.0.1",
            "port": port,
            "tls": {"cert": str(certificate), "key": str(key)},
        },
        "upstream": {
            "demo": {
                "route": {"path_prefix": "/"},
                "backends": [{"id": "embedded", "address": "app:backend"}],
            }
        },
    }


def request(url: str) -> bool:
    """Make one request with the ``spooky request`` command and show it; return its success."""
    command = [sys.executable, "-m", "spooky.cli.main", "request", "--insecure", "--verbose", url]
    print(f"$ spooky request --insecure --verbose {url}", flush=True)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=REQUEST_TIMEOUT_SECONDS, check=False
    )
    print(done.stderr + done.stdout, flush=True)
    return done.returncode == 0 and PAGE.decode() in done.stdout


def show_how_to_try(url: str, port: int, certificate_hash: str) -> None:
    """Print how to reach the demo from other clients."""
    print(
        f"Try it yourself while this runs:\n"
        f"  curl:      curl --http3-only --insecure {url}\n"
        f"             (a curl that lists HTTP3 in `curl --version`; any curl reaches it over\n"
        f"             HTTP/2 without --http3-only)\n"
        f"  Chromium:  chromium --origin-to-force-quic-on=127.0.0.1:{port} \\\n"
        f"               --ignore-certificate-errors-spki-list={certificate_hash} {url}\n"
        f"Ctrl-C ends it.",
        flush=True,
    )


def public_key_hash(certificate: bytes) -> str:
    """Return the hash by which Chromium can be told to trust a certificate's key."""
    import base64
    import hashlib

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()


async def run(port: int, once: bool, directory: Path) -> int:
    """Serve, make the request, and go on serving unless asked not to."""
    made = self_signed()
    certificate, key = directory / "cert.pem", directory / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    proxy = spooky.Proxy(configuration(port, certificate, key), apps={"backend": backend})
    async with proxy:
        url = f"https://127.0.0.1:{proxy.port}/"
        print(f"Spooky serves {url} in front of an embedded backend.\n", flush=True)
        if not await asyncio.to_thread(request, url):
            print("The request did not go through.", file=sys.stderr)
            return 1
        if not once:
            show_how_to_try(url, proxy.port, public_key_hash(made.certificate))
            await stopped.wait()
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit after the request")
    parser.add_argument("--port", type=int, default=0, help="port to serve on; 0 takes a free one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spooky-demo-") as directory:
        return uvloop.run(run(arguments.port, arguments.once, Path(directory)))


if __name__ == "__main__":
    sys.exit(main())
