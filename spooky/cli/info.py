"""``spooky info``: versions, and what this machine offers."""

import ctypes
import importlib.metadata
import platform
import socket
import ssl
from collections.abc import Mapping
from typing import Final

import click
import msgspec

from spooky._version import __version__
from spooky.cli.json_option import json_option

DEPENDENCIES: Final = (
    "aiohttp", "aioquic", "cffi", "click", "cryptography", "h11", "h2", "httptools", "hyperframe",
    "msgspec", "ngh2", "prometheus_client", "pylsqpack", "pyopenssl", "pyyaml", "rich", "uvloop",
)  # fmt: skip

LIBCRYPTO: Final = "libcrypto.so.3"


@click.command()
@json_option("Print JSON.")
def command(as_json: bool) -> None:
    """Print versions, and what this machine offers."""
    facts: dict[str, Mapping[str, str | bool | None]] = {
        "spooky": _spooky(),
        "dependencies": {name: _version(name) for name in DEPENDENCIES},
        "cryptography": _cryptography(),
        "kernel": _kernel(),
    }
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(facts)))
        return
    for title, rows in facts.items():
        click.echo(click.style(title, bold=True))
        for name, value in rows.items():
            click.echo(f"  {name:<24} {_shown(value)}")


def _shown(value: str | bool | None) -> str:
    match value:
        case None:
            return "not found"
        case bool():
            return "yes" if value else "no"
    return value


def _spooky() -> dict[str, str]:
    return {
        "version": __version__,
        "core": _core(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }


def _core() -> str:
    try:
        from spooky._core import COMPILED
    except ImportError as error:
        return f"broken: {error}"
    return "compiled" if COMPILED else "pure Python"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cryptography() -> dict[str, str | None]:
    return {
        LIBCRYPTO: _libcrypto(),
        "ssl module": ssl.OPENSSL_VERSION,
        "cryptography package": _bundled_openssl(),
        "QUIC packets": _packet_protection(),
    }


def _libcrypto() -> str | None:
    """Return the version of the system's libcrypto, or ``None`` if there is none."""
    try:
        library = ctypes.CDLL(LIBCRYPTO)
        version = library.OpenSSL_version
    except (OSError, AttributeError):
        return None
    version.restype = ctypes.c_char_p
    text: bytes = version(0)
    return text.decode()


def _bundled_openssl() -> str | None:
    try:
        from cryptography.hazmat.backends.openssl.backend import backend
    except ImportError:
        return None
    return backend.openssl_version_text()


def _packet_protection() -> str | None:
    """Return whose ciphers protect the native engine's packets, or ``None`` without that engine."""
    try:
        from spooky._core import COMPILED

        if not COMPILED:
            return None
        from spooky._core.quic.crypto import provider
    except ImportError:
        return None
    return provider()


def _kernel() -> dict[str, bool]:
    """Return which features the kernel has, found by trying; nothing if ours are broken."""
    try:
        from spooky._core.udp import UdpSocket
    except ImportError:
        return {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        reuse_port = _takes_reuse_port(probe)
        udp = UdpSocket(probe.fileno(), probe.family)
        return {
            "UDP_SEGMENT (GSO)": udp.gso,
            "UDP_GRO": udp.gro,
            "ECN": udp.ecn,
            "IP_PKTINFO": udp.pktinfo,
            "path MTU discovery": udp.path_mtu_discovery,
            "recvmmsg": udp.recvmmsg,
            "SO_REUSEPORT": reuse_port,
        }


def _takes_reuse_port(probe: socket.socket) -> bool:
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except (OSError, AttributeError):
        return False
    return True
