"""The QUIC engines behind the seam of :mod:`spooky.protocol.quic.session`, and what each can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from spooky import _core
from spooky.protocol.quic import aioquic_session
from spooky.protocol.quic.packet import PacketHeader
from spooky.protocol.quic.parameters import ClientParameters, ServerParameters
from spooky.protocol.quic.session import Address, QuicSession


class Feature(StrEnum):
    """What an engine may lack; the value is how messages call it."""

    ECN = "explicit congestion notification"
    PATH_MTU_DISCOVERY = "path MTU discovery"
    STATELESS_RESET = "stateless reset"
    KEY_UPDATE = "key update on request"
    AEAD_LIMITS = "key update at the AEAD limits"
    EARLY_DATA = "0-RTT"
    WORKERS = "more than one worker"
    STATISTICS = "transport statistics"
    PRIORITIES = "sending in the order of priorities"
    LATE_PACKETS = "telling late packets from lost ones"
    ONE_TIME_TICKETS = "tickets that work once"
    ID_PER_PATH = "a connection ID for each path"
    FORGED_NEGOTIATION = "noticing a forged version negotiation"
    HELLO_RETRY = "asking for another key share"


class ServerFactory(Protocol):
    """Begins a server's side of a connection; see the engines' ``server_session``."""

    def __call__(
        self,
        parameters: ServerParameters,
        header: PacketHeader,
        peer: Address,
        now: float,
        new_connection_id: Callable[[], bytes],
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        address_validated: bool = False,
    ) -> QuicSession: ...


class ClientFactory(Protocol):
    """Begins a client's side of a connection; see the engines' ``client_session``."""

    def __call__(
        self, parameters: ClientParameters, peer: Address, server_name: str, now: float
    ) -> QuicSession: ...


@dataclass(frozen=True, slots=True)
class Engine:
    """An implementation of QUIC.

    Attributes:
        name: What the configuration calls it.
        server_session: Begins a server's side of a connection.
        client_session: Begins a client's.
        lacks: The features it does not have, each with the reason.
    """

    name: str
    server_session: ServerFactory
    client_session: ClientFactory
    lacks: Mapping[Feature, str] = field(default_factory=dict)


AIOQUIC: Final = Engine(
    "aioquic",
    aioquic_session.server_session,
    aioquic_session.client_session,
    {
        Feature.ECN: "aioquic neither sets nor counts ECN marks",
        Feature.PATH_MTU_DISCOVERY: "aioquic's datagrams have one size for the whole connection",
        Feature.STATELESS_RESET: "aioquic's connections do not heed stateless resets",
        Feature.KEY_UPDATE: "aioquic forgets the old keys at once, and can lose a connection by it",
        Feature.AEAD_LIMITS: "aioquic does not count the packets that a key protected",
        Feature.EARLY_DATA: "aioquic has no replay protection across connections",
        Feature.WORKERS: "aioquic's tickets live in the memory of one worker",
        Feature.STATISTICS: "aioquic does not count packets",
        Feature.PRIORITIES: "aioquic lets all streams take turns, whatever their priority",
        Feature.LATE_PACKETS: "aioquic's thresholds of reordering are fixed",
        Feature.FORGED_NEGOTIATION: "aioquic heeds the version in use alone",
        Feature.HELLO_RETRY: "aioquic sends no HelloRetryRequest",
        Feature.ID_PER_PATH: "aioquic's servers use one connection ID for all of a client's paths",
    },
)
"""aioquic in pure Python: the reference, and what runs without compiled kernels."""


def _native() -> list[Engine]:
    """Return the native engine, if this installation has compiled kernels."""
    if not _core.COMPILED:
        return []
    from spooky.protocol.quic import native_session

    return [
        Engine(
            "native",
            native_session.server_session,
            native_session.client_session,
            {
                Feature.ONE_TIME_TICKETS: "the native engine keeps none of the tickets it seals",
            },
        )
    ]


ENGINES: Final[Mapping[str, Engine]] = {engine.name: engine for engine in (AIOQUIC, *_native())}
"""By name, the engines that this installation has, the best last."""


def chosen_engine(name: str | None) -> Engine:
    """Return the engine of this name, or the best there is if that is ``None``."""
    return list(ENGINES.values())[-1] if name is None else ENGINES[name]
