"""How the TCP connections of a listener behave."""

from dataclasses import dataclass

from spooky.config.glitches import Glitches
from spooky.edge.source_rules import SourceRules
from spooky.generation.authorities import Authorities
from spooky.generation.tcp_contexts import TcpContexts
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.stream import Field
from spooky.request.client_address import TrustedProxies


@dataclass(frozen=True, slots=True)
class EstablishedSettings:
    """How TCP connections of a listener behave after their handshake.

    They keep this and no more: the rest would keep certificates and keys that were replaced.

    Attributes:
        glitches: How odd clients may be.
        head_timeout: For a complete HTTP/1.1 request head, from its first byte; seconds.
        idle_timeout: For a connection without a request; seconds.
        response_fields: Fields added to every response, such as ``alt-svc``.
        http1: Limits of HTTP/1.1 sessions.
        http2: Limits of HTTP/2 sessions.
        proxies: Whose word is taken for where clients are.
    """

    glitches: Glitches
    head_timeout: float
    idle_timeout: float
    response_fields: tuple[Field, ...]
    http1: Http1Limits
    http2: Http2Limits
    proxies: TrustedProxies


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """How TCP connections of a listener behave.

    Attributes:
        tls: The contexts that new connections use.
        authorities: What may be asked for over a connection.
        sources: Who is dropped, by where it is.
        handshake_timeout: For the TLS handshake; seconds.
        established: What counts after it.
    """

    tls: TcpContexts
    authorities: Authorities
    sources: SourceRules
    handshake_timeout: float
    established: EstablishedSettings
