"""What a configuration means for the connections of a listener."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from spooky.config.schema import Configuration
from spooky.config.source_rules import parse_source_rule
from spooky.edge.quic import EstablishedQuicSettings, QuicSettings
from spooky.edge.source_rules import SourceRules
from spooky.edge.stateless import AddressSettings
from spooky.edge.tcp_settings import EstablishedSettings, TcpSettings
from spooky.generation.authorities import Authorities
from spooky.generation.certificates import ListenerTls
from spooky.protocol.h1.limits import Limits as Http1Limits
from spooky.protocol.h2.limits import Limits as Http2Limits
from spooky.protocol.h3.limits import Limits as Http3Limits
from spooky.protocol.quic.early_data import EarlyData, StrikeRegister
from spooky.protocol.quic.engines import chosen_engine
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.parameters import ServerParameters
from spooky.protocol.quic.session import Address
from spooky.protocol.quic.stateless import ResetTokens
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.tokens import AddressTokens
from spooky.protocol.quic.windows import (
    CONNECTION_WINDOW_MAX,
    STREAM_WINDOW_MAX,
    WindowAccount,
)
from spooky.request.client_address import TrustedProxies

FIELD_SEPARATOR_BYTES: Final = 4
"""What a field line of HTTP/1.1 has on the wire beside its name and value: ``: `` and CR LF."""

REQUEST_LINE_SEPARATOR_BYTES: Final = 64
"""Room for what a request line has beside method and target, which count as values here."""

ALT_SVC_MAX_AGE_SECONDS: Final = 86_400
"""How long clients remember that HTTP/3 is offered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is a listener's own.

    Attributes:
        tls: What it presents and demands.
        proxies: Whose word it takes for where clients are.
        authorities: What may be asked for over its connections.
        sources: What becomes of new connections by where they come from; the same for all.
    """

    tls: ListenerTls
    proxies: TrustedProxies
    authorities: Authorities
    sources: SourceRules


def terms_of(configuration: Configuration, tls: Sequence[ListenerTls]) -> list[Terms]:
    """Return what is each active listener's own, in their order.

    Arguments:
        tls: What each presents and demands.
    """
    every = list(zip(configuration.active_listeners, tls, strict=True))
    sources = SourceRules(map(parse_source_rule, configuration.performance.source_rules))
    return [
        Terms(own[1], TrustedProxies(own[0].client_address), Authorities(own, every), sources)
        for own in every
    ]


def quic_settings(
    configuration: Configuration,
    terms: Terms,
    tickets: TicketStore,
    account: WindowAccount,
    keys: Keys,
    listener: str,
    register: StrikeRegister,
) -> QuicSettings:
    """Return how QUIC connections behave.

    Arguments:
        terms: The listener's own.
        tickets: The listener's sessions that clients may resume.
        account: From which the windows of all connections of the worker grow.
        keys: The secrets that all workers share.
        listener: What the listener is called in tokens.
        register: Where all workers strike out tickets that were used for 0-RTT.
    """
    performance = configuration.performance
    limits = configuration.resilience.protocol
    stream_window = performance.quic_initial_max_stream_data
    connection_window = performance.quic_initial_max_data
    http3 = Http3Limits(limits.max_headers_count, limits.max_headers_bytes)
    promised = (
        connection_window,
        stream_window,
        performance.quic_initial_max_streams_bidi,
        http3.max_field_section_size,
    )
    settings = QuicSettings(
        engine=chosen_engine(
            None if performance.quic_engine == "auto" else performance.quic_engine
        ),
        parameters=ServerParameters(
            certificates=terms.tls.selector,
            tickets=tickets,
            early_data=EarlyData(register, promised) if limits.allow_0rtt else None,
            idle_timeout=performance.quic_max_idle_timeout_ms / 1000,
            stream_window=stream_window,
            stream_window_max=max(stream_window, STREAM_WINDOW_MAX),
            connection_window=connection_window,
            connection_window_max=max(connection_window, CONNECTION_WINDOW_MAX),
            account=account,
            max_streams_bidi=performance.quic_initial_max_streams_bidi,
            congestion_control=performance.quic_congestion_control,
            listener=listener,
            reset_token=ResetTokens(keys, listener).of,
            wall_clock=time.time,
        ),
        http3=http3,
        handshake_timeout=performance.client_head_timeout_ms / 1000,
        address=AddressSettings(
            performance.quic_retry, AddressTokens(keys), performance.new_connections_per_sec
        ),
        sources=terms.sources,
        authorities=terms.authorities,
        established=EstablishedQuicSettings(
            performance.quic_max_idle_timeout_ms / 1000, limits.glitches, terms.proxies
        ),
    )
    return with_keys(settings, keys)


def with_keys(settings: QuicSettings, keys: Keys) -> QuicSettings:
    """Return the same settings with keys that were rotated; the one for resets never is."""
    tokens = AddressTokens(keys)
    # The clock by which they are checked, too.
    wall_clock = settings.parameters.wall_clock

    def new_token(peer: Address, version: int) -> bytes:
        return tokens.for_later(peer, version, wall_clock())

    return replace(
        settings,
        parameters=replace(settings.parameters, keys=keys, new_token=new_token),
        address=replace(settings.address, tokens=tokens),
    )


def tcp_settings(configuration: Configuration, terms: Terms, port: int) -> TcpSettings:
    """Return how TCP connections behave.

    Arguments:
        terms: The listener's own.
        port: The port that ``alt-svc`` names.
    """
    performance = configuration.performance
    limits = configuration.resilience.protocol
    alt_svc = f'h3=":{port}"; ma={ALT_SVC_MAX_AGE_SECONDS}'
    # On the wire, so that it is the validator that refuses a head whose names and values are too
    # large, with one limit for all protocols.
    head_bytes = (
        limits.max_headers_bytes
        + limits.max_headers_count * FIELD_SEPARATOR_BYTES
        + REQUEST_LINE_SEPARATOR_BYTES
    )
    return TcpSettings(
        tls=terms.tls.tcp,
        authorities=terms.authorities,
        sources=terms.sources,
        handshake_timeout=performance.client_head_timeout_ms / 1000,
        established=EstablishedSettings(
            glitches=limits.glitches,
            head_timeout=performance.client_head_timeout_ms / 1000,
            idle_timeout=performance.quic_max_idle_timeout_ms / 1000,
            response_fields=((b"alt-svc", alt_svc.encode()),),
            http1=Http1Limits(
                max_headers_count=limits.max_headers_count, max_headers_bytes=head_bytes
            ),
            http2=Http2Limits(
                max_headers_count=limits.max_headers_count,
                max_headers_bytes=limits.max_headers_bytes,
                max_concurrent_streams=performance.quic_initial_max_streams_bidi,
                stream_window_bytes=performance.quic_initial_max_stream_data,
                connection_window_bytes=performance.quic_initial_max_data,
            ),
            proxies=terms.proxies,
        ),
    )
