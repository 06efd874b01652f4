"""What may be chosen about QUIC connections."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TextIO

from aioquic.tls import SessionTicket

from spooky.protocol.quic import windows
from spooky.protocol.quic.certificates import CertificateChain, CertificateSelector
from spooky.protocol.quic.congestion import ALGORITHMS
from spooky.protocol.quic.early_data import EarlyData
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.limits import DEFAULT_LIMITS, Limits
from spooky.protocol.quic.packet import INITIAL_DATAGRAM_MIN_SIZE, VERSION_1, VERSION_2
from spooky.protocol.quic.server_verifier import ServerVerifier
from spooky.protocol.quic.session import Address
from spooky.protocol.quic.tickets import TicketStore
from spooky.protocol.quic.tokens import TokenStore
from spooky.protocol.quic.windows import WindowAccount

VERSIONS: Final = (VERSION_1, VERSION_2)
"""The QUIC versions spoken, in order of preference for a client."""

DATAGRAM_SIZE: Final = 1350
"""Largest datagram sent, without IP and UDP headers; bytes. There is no path MTU discovery with
aioquic, and this passes nearly every path; the native engine finds out."""

DATAGRAM_MAX_SIZE: Final = 65_527
"""Largest UDP payload (RFC 9000 section 18.2); bytes."""

WINDOW_GROWTH_MAX: Final = 256 * 1024 * 1024
"""Bytes by which the windows of a worker's connections may grow together, unless told otherwise."""


def date_at(unix_time: float) -> datetime.datetime:
    """Return a time as certificates have it."""
    return datetime.datetime.fromtimestamp(unix_time, datetime.UTC)


def _present() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


@dataclass(frozen=True, kw_only=True)
class EndpointParameters:
    """What clients and servers have in common.

    Attributes:
        alpn: Application protocols, the preferred first.
        versions: QUIC versions, the preferred first.
        idle_timeout: After which a silent connection ends; seconds.
        stream_window: What a stream may have outstanding at first; bytes.
        stream_window_max: What that may grow to; bytes.
        connection_window: What a connection may have outstanding at first; bytes.
        connection_window_max: What that may grow to; bytes.
        account: From which the windows of all connections of a worker grow.
        max_streams_bidi: Bidirectional streams the peer may have open.
        max_streams_uni: Unidirectional streams the peer may have open.
        max_datagram_size: Largest datagram that aioquic sends; bytes.
        congestion_control: ``cubic`` or ``reno``.
        limits: How far a connection goes along with its peer.
        secrets_log: Where traffic secrets are written for packet captures; never in production.
        wall_clock: The time of day, for certificates, tickets and tokens; Unix time, seconds.
        encoded: By version, the transport parameters that all connections send, once one did.
    """

    alpn: tuple[str, ...] = ("h3",)
    versions: tuple[int, ...] = VERSIONS
    idle_timeout: float = 30.0
    stream_window: int = windows.STREAM_WINDOW
    stream_window_max: int = windows.STREAM_WINDOW_MAX
    connection_window: int = windows.CONNECTION_WINDOW
    connection_window_max: int = windows.CONNECTION_WINDOW_MAX
    account: WindowAccount = field(default_factory=lambda: WindowAccount(WINDOW_GROWTH_MAX))
    max_streams_bidi: int = 128
    max_streams_uni: int = 16
    max_datagram_size: int = DATAGRAM_SIZE
    congestion_control: str = "cubic"
    limits: Limits = DEFAULT_LIMITS
    secrets_log: TextIO | None = None
    wall_clock: Callable[[], float] = _present
    encoded: dict[int, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def established(self) -> "EndpointParameters":
        """What counts after the handshake, which connections keep in place of this."""
        return self

    def __post_init__(self) -> None:
        if not self.alpn:
            raise ValueError("at least one application protocol is needed")
        if not self.versions or not set(self.versions) <= set(VERSIONS):
            raise ValueError("QUIC versions must be 1 or 2")
        if self.congestion_control not in ALGORITHMS:
            raise ValueError(f"congestion control must be one of {', '.join(ALGORITHMS)}")
        if not INITIAL_DATAGRAM_MIN_SIZE <= self.max_datagram_size <= DATAGRAM_MAX_SIZE:
            raise ValueError(
                f"datagrams have {INITIAL_DATAGRAM_MIN_SIZE} to {DATAGRAM_MAX_SIZE} bytes"
            )


@dataclass(frozen=True, kw_only=True)
class ServerParameters(EndpointParameters):
    """How a server treats its connections.

    Attributes:
        certificates: Which certificate to present, and what to ask clients for; ``None`` after the
            handshake.
        tickets: Sessions that clients may resume; ``None`` allows none. An engine that seals its
            tickets keeps nothing there.
        early_data: How 0-RTT data is taken in resumed sessions; ``None`` takes none.
        keys: What all workers seal tickets, tokens and resets under; ``None`` if nobody else has
            to open them.
        listener: Its name, to which tickets are bound.
        new_token: Makes a token for a NEW_TOKEN frame to a client whose address is validated;
            ``None`` if none shall be sent.
        reset_token: The stateless reset token of a connection ID; ``None`` for random ones.
    """

    certificates: CertificateSelector | None
    tickets: TicketStore | None = None
    early_data: EarlyData | None = None
    keys: Keys | None = None
    listener: str = ""
    new_token: Callable[[Address, int], bytes] | None = None
    reset_token: Callable[[bytes], bytes] | None = None

    @cached_property
    def established(self) -> "ServerParameters":
        """The same without certificates and keys: connections would keep those that were replaced.

        But for ``new_token``: a NEW_TOKEN frame that is lost is made anew.
        """
        return replace(self, certificates=None, tickets=None, early_data=None, keys=None)


@dataclass(frozen=True, kw_only=True)
class ClientParameters(EndpointParameters):
    """How a client treats its connections.

    Attributes:
        authorities: Certificates to trust, PEM.
        verify: Whether the server's certificate is verified by them.
        verifier: Judges it as well; leave it to that alone by ``verify=False``.
        certificate: To present if the server asks.
        ticket: Of a session to resume, whose server was verified as it would be here: in a resumed
            handshake there are no certificates.
        early_data: Whether streams may be opened at once, in 0-RTT data, if the ticket allows it.
            Whoever records that can send it again.
        on_ticket: Called with each ticket the server gives.
        tokens: Where tokens of servers are kept for later connections; ``None`` uses none.
        groups: Of the key exchange, by number (RFC 8446 section 4.2.7), the preferred first;
            ``None`` offers all there are. The native engine brings a share of the first, and of
            another if the server asks for it; aioquic brings one of each, as it knows no asking.
    """

    authorities: bytes = b""
    verify: bool = True
    verifier: ServerVerifier | None = None
    certificate: CertificateChain | None = None
    ticket: SessionTicket | None = None
    early_data: bool = False
    on_ticket: Callable[[SessionTicket], None] | None = None
    tokens: TokenStore | None = None
    groups: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.verify and not self.authorities:
            raise ValueError("no authority to verify the server's certificate by")

    def resuming(self, ticket: SessionTicket) -> "ClientParameters":
        """Return the same for who resumes a session, with what was encoded of it already.

        Arguments:
            ticket: Of the session.
        """
        other = object.__new__(ClientParameters)
        other.__dict__.update(self.__dict__, ticket=ticket)
        return other
