"""``spooky request``: a small HTTP/3 client for operators."""

import asyncio
import re
import socket
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

import click

from spooky._core.reasons import UPSTREAM_CERTIFICATE_INVALID, Reason
from spooky.cli.errors import CommandError
from spooky.protocol.quic.session import Handshake
from spooky.protocol.stream import Field, Stream

if TYPE_CHECKING:
    from spooky.protocol.quic.parameters import ClientParameters

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5: not in a value


@dataclass(frozen=True, slots=True)
class Target:
    """What to request, and how to get there."""

    url: SplitResult
    method: str
    headers: list[Field]
    body: bytes
    insecure: bool
    authorities: bytes
    timeout: float


@dataclass(slots=True)
class Timing:
    """When things happened; seconds from the start."""

    started: float = field(default_factory=time.monotonic)
    resolved: float = 0.0
    handshake: float = 0.0
    first_byte: float = 0.0
    total: float = 0.0

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started


class OutputError(Exception):
    """The response cannot be written; its argument is why."""


class ResponsePrinter:
    """Writes a response as it arrives: the body to stdout, the rest to stderr if verbose."""

    def __init__(self, timing: Timing, verbose: bool) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stream: Stream
        self._timing = timing
        self._verbose = verbose

    def on_head(self, fields: list[Field], end: bool) -> None:
        """Show the response head."""
        self._timing.first_byte = self._timing.elapsed()
        self._show(fields)
        if end:
            self._end()

    def on_informational(self, fields: list[Field]) -> None:
        """Show a 1xx head."""
        self._show(fields)

    def on_data(self, data: bytes, end: bool) -> None:
        """Write a piece of the body."""
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            # It is ours, and not the connection's: the reader has gone, or the disk is full.
            if not self.ended.done():
                self.ended.set_exception(OutputError(error))
            return
        self.stream.consume(len(data))
        if end:
            self._end()

    def on_trailers(self, fields: list[Field]) -> None:
        """Show the trailers."""
        self._show(fields)
        self._end()

    def on_reset(self, reason: Reason) -> None:
        """Fail: the response was cut short."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"{reason.text} ({reason.code})"))

    def on_stopped(self) -> None:
        """Do nothing: the server answers without reading the body."""

    def on_writable(self) -> None:
        """Do nothing: the body was handed over whole."""

    def _show(self, fields: list[Field]) -> None:
        if not self._verbose:
            return
        for name, value in fields:
            shown = f"{name.decode('latin-1')}: {value.decode('latin-1')}"
            click.echo("< " + "".join(c if c.isprintable() else "?" for c in shown), err=True)
        click.echo("<", err=True)

    def _end(self) -> None:
        self._timing.total = self._timing.elapsed()
        if not self.ended.done():
            self.ended.set_result(None)


@click.command()
@click.argument("url")
@click.option("-X", "--method", help="Request method; GET, or POST with --data.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Add a header field."
)
@click.option("-d", "--data", help="Request body; @FILE reads a file, @- reads stdin.")
@click.option("-k", "--insecure", is_flag=True, help="Do not verify the server's certificate.")
@click.option(
    "--cacert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the authorities to trust instead of the system's.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Time for everything together.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show handshake, heads and timing on stderr.")
def command(
    url: str,
    method: str | None,
    headers: tuple[str, ...],
    data: str | None,
    insecure: bool,
    cacert: Path | None,
    timeout: float,
    verbose: bool,
) -> None:
    """Make one request over HTTP/3 and print the body of the response.

    Exit codes: 0 if a complete response came, whatever its status; 1 if not; 2 for wrong usage.
    """
    target = Target(
        url=parse_url(url),
        method=_parse_method(method or ("GET" if data is None else "POST")),
        headers=[_parse_header(header) for header in headers],
        body=_read_body(data),
        insecure=insecure,
        authorities=b"" if insecure else _authorities(cacert),
        timeout=timeout,
    )
    try:
        asyncio.run(_request(target, verbose))
    except OutputError as error:
        raise error.args[0] from None
    except TimeoutError as error:
        raise CommandError(
            f"no complete response from {target.url.netloc} within {timeout:g} s",
            "is something listening on that UDP port, and does a firewall let it through?",
        ) from error
    except ConnectionRefusedError as error:
        raise CommandError(
            f"{target.url.netloc}: nothing listens on that UDP port",
            "HTTP/3 is QUIC, over UDP: see whether the server has it, and on which port",
        ) from error
    except OSError as error:
        text = f"{target.url.netloc}: {error.strerror or error}"
        raise CommandError(text, _remedy(error)) from error


def _remedy(error: OSError) -> str:
    from spooky.upstream.http3 import HandshakeError

    if isinstance(error, HandshakeError) and error.reason is UPSTREAM_CERTIFICATE_INVALID:
        return "--cacert FILE trusts its authority; --insecure trusts anybody"
    return ""


async def _request(target: Target, verbose: bool) -> None:
    from spooky.runtime import Runtime
    from spooky.upstream.http3 import Http3Connection

    timing = Timing()
    runtime = Runtime(asyncio.get_running_loop())
    async with asyncio.timeout(target.timeout):
        udp = await _connect_udp(target.url, runtime.loop)
        timing.resolved = timing.elapsed()
        host = target.url.hostname or ""
        connection = Http3Connection(runtime, udp, _parameters(target), host)
        try:
            handshake = await connection.established
            timing.handshake = timing.elapsed()
            if verbose:
                _show_handshake(udp.getpeername(), handshake)
            printer = ResponsePrinter(timing, verbose)
            printer.stream = connection.http3.open(printer)
            _send(printer.stream, target, verbose)
            await printer.ended
        finally:
            connection.shutdown()
            connection.flush()
            connection.close()
            await runtime.close()
    if verbose:
        _show_timing(timing)


def _authorities(cacert: Path | None) -> bytes:
    from spooky.generation.materials import system_authorities
    from spooky.protocol.quic.server_verifier import verifier_of

    authorities = system_authorities() if cacert is None else cacert.read_bytes()
    if not authorities:
        raise CommandError(
            "there is no authority to verify the server's certificate by",
            "--cacert FILE names some; --insecure trusts anybody",
        )
    # Some authorities have numbers that none would get today, of which their parser would warn.
    warnings.filterwarnings("ignore", message="Parsed a serial number")
    try:
        verifier_of(authorities)
    except ValueError as error:
        source = "the system's authorities" if cacert is None else str(cacert)
        raise CommandError(f"{source}: {error}", "--cacert FILE names others; PEM") from error
    return authorities


async def _connect_udp(url: SplitResult, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """Return a socket connected to the first address of the URL's host."""
    found = await loop.getaddrinfo(url.hostname, url.port or 443, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    udp = socket.socket(family, kind, protocol)
    udp.setblocking(False)
    udp.connect(address)
    return udp


def _parameters(target: Target) -> "ClientParameters":
    from spooky.protocol.quic.parameters import ClientParameters

    return ClientParameters(verify=not target.insecure, authorities=target.authorities)


def _send(stream: Stream, target: Target, verbose: bool) -> None:
    url = target.url
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [
        (b":method", target.method.encode()),
        (b":scheme", b"https"),
        (b":authority", url.netloc.encode()),
        (b":path", path.encode()),
        *target.headers,
    ]
    if target.body:
        fields.append((b"content-length", b"%d" % len(target.body)))
    if verbose:
        for name, value in fields:
            click.echo(f"> {name.decode('latin-1')}: {value.decode('latin-1')}", err=True)
        click.echo(">", err=True)
    stream.send_head(fields, end=not target.body)
    if target.body:
        stream.send_data(target.body, end=True)


def parse_url(url: str) -> SplitResult:
    """Return the parts of an https URL."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        valid = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None:
        raise click.UsageError(
            f"{url!r} is not a URL for HTTP/3; it looks like https://example.org/path"
        )
    if not url.isascii() or any(character.isspace() for character in url):
        raise click.UsageError(f"{url!r} has to be percent-encoded: no spaces, only ASCII")
    return parts


def _parse_method(method: str) -> str:
    if not TOKEN.fullmatch(method):
        raise click.UsageError(f"--method {method!r} is not a method, such as GET")
    return method


def _parse_header(header: str) -> Field:
    name, colon, value = header.partition(":")
    if not colon or not TOKEN.fullmatch(name.strip()) or CONTROL.search(value.strip()):
        raise click.UsageError(f"--header {header!r} is not NAME: VALUE")
    return name.strip().lower().encode(), value.strip().encode()


def _read_body(data: str | None) -> bytes:
    if data is None:
        return b""
    if data == "@-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return data.encode()


def _show_handshake(peer: tuple[str, int], handshake: Handshake) -> None:
    click.echo(
        f"* connected to {peer[0]} port {peer[1]}: QUIC version {handshake.version:#010x}, "
        f"ALPN {handshake.alpn}",
        err=True,
    )


def _show_timing(timing: Timing) -> None:
    click.echo(
        f"* resolved {timing.resolved * 1000:.1f} ms, handshake {timing.handshake * 1000:.1f} ms, "
        f"first byte {timing.first_byte * 1000:.1f} ms, total {timing.total * 1000:.1f} ms",
        err=True,
    )
