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

DEPENDENCIES: Final = (
    "aioquic", "click", "cryptography", "h11", "h2", "httptools", "hyperframe", "msgspec", "ngh2",
    "pylsqpack", "pyyaml", "uvloop",
)  # fmt: skip

# Socket options that Python's socket module has no names for: linux/udp.h, asm/socket.h.
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

SEGMENT_BYTES: Final = 1_200  # the least size of a QUIC datagram (RFC 9000 section 14)
LIBCRYPTO: Final = "libcrypto.so.3"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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


def _kernel() -> dict[str, bool]:
    """Return which features the kernel has, found by trying."""
    return {
        "UDP_SEGMENT (GSO)": _takes(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES),
        "UDP_GRO": _takes(socket.IPPROTO_UDP, UDP_GRO, 1),
        "SO_REUSEPORT": _takes(socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", None), 1),
        "recvmmsg": _has_function("recvmmsg"),
        "sendmmsg": _has_function("sendmmsg"),
    }


def _takes(level: int, option: int | None, value: int) -> bool:
    """Return whether a UDP socket takes an option."""
    if option is None or platform.system() != "Linux":
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(level, option, value)
        except OSError:
            return False
    return True


def _has_function(name: str) -> bool:
    return hasattr(ctypes.CDLL(None), name)
