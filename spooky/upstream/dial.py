"""Connecting to a backend over TCP: resolve, connect, TLS, and the protocol it agrees to."""

import asyncio
import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

from spooky._core import reasons
from spooky._core.carrier import SocketTransport
from spooky._core.reasons import Reason
from spooky.protocol.quic.certificates import CertificateChain
from spooky.protocol.quic.server_verifier import ServerVerifier
from spooky.runtime import Runtime
from spooky.runtime.byte_transport import CarriedProtocol
from spooky.runtime.memory_file import memory_file
from spooky.upstream.origin import Origin
from spooky.upstream.sessions import ResumingContext

ALPN_HTTP1: Final = "http/1.1"
ALPN_HTTP2: Final = "h2"
ALPN_HTTP3: Final = "h3"

HTTP_3: Final = "http3"
"""The protocol that is dialled over UDP, see ``quic.py``."""

ALPN_BY_PROTOCOL: Final = {
    "auto": [ALPN_HTTP2, ALPN_HTTP1],
    "http1": [ALPN_HTTP1],
    "http2": [ALPN_HTTP2],
}

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host; raises ``socket.gaierror``."""


class DialError(Exception):
    """A backend could not be connected.

    Attributes:
        reason: Why.
        detail: What the system said.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.code}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class QuicTls:
    """How TLS to a backend is verified and authenticated within QUIC.

    Attributes:
        verifier: Judges the backend's certificate; ``None`` to take any.
        certificate: Ours, for a backend that asks for one.
    """

    verifier: ServerVerifier | None
    certificate: CertificateChain | None


@dataclass(frozen=True)
class UpstreamTls:
    """How TLS to a backend is verified and authenticated; equal values share pools.

    Attributes:
        verify_certificates: Whether the backend's chain must be trusted.
        strict_sni: Whether its name must match as well.
        ca_pem: Authorities trusted; PEM.
        client_certificate_pem: Our certificate chain; PEM, empty for none.
        client_key_pem: Its key; PEM.
    """

    verify_certificates: bool = True
    strict_sni: bool = True
    ca_pem: bytes = b""
    client_certificate_pem: bytes = b""
    client_key_pem: bytes = b""

    @cached_property
    def fingerprint(self) -> str:
        """A name for this identity that gives no key away; each backend's pool asks for it."""
        digest = hashlib.sha256()
        for part in (
            bytes([self.verify_certificates, self.strict_sni]),
            self.ca_pem,
            self.client_certificate_pem,
            self.client_key_pem,
        ):
            digest.update(len(part).to_bytes(8) + part)
        return digest.hexdigest()

    @cached_property
    def quic(self) -> QuicTls:
        """The same within QUIC.

        Raises:
            ValueError: The certificates or the key cannot be used.
        """
        verifier = certificate = None
        if self.verify_certificates:
            verifier = ServerVerifier(self.ca_pem, checks_name=self.strict_sni)
        if self.client_certificate_pem:
            certificate = CertificateChain(self.client_certificate_pem, self.client_key_pem)
        return QuicTls(verifier, certificate)

    @cached_property
    def _contexts(self) -> dict[str, ssl.SSLContext]:
        return {}

    def context(self, protocol: str) -> ssl.SSLContext:
        """Return the client context that offers what ``protocol`` allows by ALPN.

        Each is made once: reading a bundle of authorities takes many milliseconds.

        Raises:
            ssl.SSLError: The certificates or the key cannot be used.
        """
        if protocol not in self._contexts:
            self._contexts[protocol] = self._make_context(protocol)
        return self._contexts[protocol]

    def _make_context(self, protocol: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.verify_certificates and self.strict_sni
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_certificates else ssl.CERT_NONE
        if self.ca_pem and self.verify_certificates:
            context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))
        if self.client_certificate_pem:
            with memory_file(self.client_certificate_pem + b"\n" + self.client_key_pem) as path:
                context.load_cert_chain(path)
        context.set_alpn_protocols(ALPN_BY_PROTOCOL[protocol])
        return context


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How to connect to one origin.

    Attributes:
        origin: Where to.
        protocol: ``auto``, ``http1``, ``http2`` or ``http3``.
        tls: The TLS context for https origins, else ``None``.
        quic: In its place for HTTP/3.
    """

    origin: Origin
    protocol: str
    tls: ssl.SSLContext | None
    quic: QuicTls | None = None

    @classmethod
    def of(cls, origin: Origin, protocol: str, tls: UpstreamTls) -> "DialSettings":
        """Return how to connect to an origin with a TLS identity.

        Raises:
            ssl.SSLError: The certificates or the key cannot be used.
            ValueError: So.
        """
        if protocol == HTTP_3:
            return cls(origin, protocol, None, tls.quic)
        if origin.scheme != "https":
            return cls(origin, protocol, None)
        return cls(origin, protocol, tls.context(protocol))


async def dial(
    settings: DialSettings,
    resolve: Resolve,
    runtime: Runtime,
    make_protocol: Callable[[], CarriedProtocol],
    seconds: float,
    session: ssl.SSLSession | None = None,
) -> None:
    """Connect to an origin.

    Arguments:
        runtime: The worker's.
        seconds: For resolving, connecting and TLS together.
        session: Of TLS, to be resumed.
        make_protocol: Makes the protocol object for the connection; it asks
            :func:`agreed_protocol` what to speak.

    Raises:
        DialError: It could not be connected; says why.
    """
    origin = settings.origin
    try:
        async with asyncio.timeout(seconds):
            transport = await _connect_any(settings, resolve, runtime, make_protocol, session)
    except TimeoutError as error:
        raise connect_timed_out(origin, seconds) from error
    agreed = agreed_protocol(transport, settings.protocol)
    if settings.tls is not None and agreed not in ALPN_BY_PROTOCOL[settings.protocol]:
        transport.abort()
        raise DialError(
            reasons.UPSTREAM_ALPN_MISMATCH,
            f"{origin} speaks {agreed}, but protocol is {settings.protocol}",
        )


def agreed_protocol(transport: asyncio.BaseTransport, protocol: str) -> str:
    """Return ``h2`` or ``http/1.1``: what ALPN chose, or without TLS what is configured."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return ALPN_HTTP2 if protocol == "http2" else ALPN_HTTP1
    return tls.selected_alpn_protocol() or ALPN_HTTP1


async def addresses_of(origin: Origin, resolve: Resolve) -> list[str]:
    """Return the addresses of an origin's host.

    Raises:
        DialError: It has none that is known.
    """
    try:
        return await resolve(origin.host, origin.port)
    except socket.gaierror as error:
        raise DialError(
            reasons.NAME_RESOLUTION_FAILED, f"{origin.host}: {error.strerror}"
        ) from error


def connect_timed_out(origin: Origin, seconds: float) -> DialError:
    """Return what is wrong with an origin that took too long."""
    milliseconds = seconds * 1000
    return DialError(
        reasons.CONNECT_TIMEOUT, f"{origin} did not accept within {milliseconds:.0f} ms"
    )


async def _connect_any(
    settings: DialSettings,
    resolve: Resolve,
    runtime: Runtime,
    make_protocol: Callable[[], CarriedProtocol],
    session: ssl.SSLSession | None,
) -> asyncio.Transport:
    """Connect to the first address that accepts."""
    origin = settings.origin
    tls = settings.tls
    if tls is not None and session is not None:
        tls = cast(ssl.SSLContext, ResumingContext(tls, session))
    failure = DialError(reasons.NAME_RESOLUTION_FAILED, f"{origin.host} has no address")
    for address in await addresses_of(origin, resolve):
        try:
            if tls is None:
                return await _connect(address, origin.port, runtime, make_protocol)
            made = await runtime.loop.create_connection(
                make_protocol, address, origin.port, ssl=tls, server_hostname=origin.host
            )
            transport: asyncio.Transport = made[0]
        except ssl.SSLCertVerificationError as error:
            failure = DialError(
                reasons.UPSTREAM_CERTIFICATE_INVALID, f"{origin}: {error.verify_message}"
            )
        except ssl.SSLError as error:
            failure = DialError(reasons.UPSTREAM_TLS_FAILED, f"{origin}: {error.reason}")
        except ConnectionRefusedError:
            failure = DialError(reasons.CONNECT_REFUSED, f"{origin} at {address} refused")
        except ConnectionError as error:
            reason = reasons.CONNECT_FAILED if settings.tls is None else reasons.UPSTREAM_TLS_FAILED
            failure = DialError(reason, f"{origin} at {address}: {error}")
        except OSError as error:
            failure = DialError(reasons.CONNECT_FAILED, f"{origin} at {address}: {error}")
        else:
            return transport
    raise failure


async def _connect(
    address: str, port: int, runtime: Runtime, make_protocol: Callable[[], CarriedProtocol]
) -> asyncio.Transport:
    """Connect to an address, without TLS.

    Loops would look the address up, in a thread for which it may have to wait; and workers look
    nothing up at all.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connected = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        failed = connected.connect_ex((address, port))
        if failed == errno.EINPROGRESS:
            await _until_writable(runtime.loop, connected)
            failed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        # What is written is all that a turn has to say: there is nothing to wait for.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connected.close()
        raise
    protocol = make_protocol()
    transport = SocketTransport(runtime, connected, protocol.carrier, protocol)
    try:
        transport.start()
    except BaseException:
        transport.abort()
        raise
    return cast(asyncio.Transport, transport)


async def _until_writable(loop: asyncio.AbstractEventLoop, connected: socket.socket) -> None:
    """Wait until a socket is connected, or cannot be."""
    writable = asyncio.Event()
    loop.add_writer(connected, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(connected)
