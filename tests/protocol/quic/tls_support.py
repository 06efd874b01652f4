"""Sides of a TLS handshake without QUIC: ours, and aioquic's bare context as the other side."""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from aioquic import tls
from aioquic.buffer import Buffer

from spooky.protocol.quic.packet import VERSION_1
from spooky.protocol.quic.parameters import ClientParameters, ServerParameters
from spooky.protocol.quic.tls_endpoint import APPLICATION, EARLY, HANDSHAKE, INITIAL

if TYPE_CHECKING:
    from spooky._core.quic.handshake import NativeTls

LEVELS = (INITIAL, HANDSHAKE, APPLICATION)
EPOCHS = {
    tls.Epoch.INITIAL: INITIAL,
    tls.Epoch.HANDSHAKE: HANDSHAKE,
    tls.Epoch.ONE_RTT: APPLICATION,
    tls.Epoch.ZERO_RTT: EARLY,
}

CLIENT_PARAMETERS = b"\x01\x02\x40\x64"
SERVER_PARAMETERS = b"\x01\x02\x40\x65"
"""Transport parameters, which TLS does not read."""


class Side(Protocol):
    """One side of a handshake.

    Attributes:
        secrets: In the order they came: whether for sending, level, cipher suite, secret.
    """

    secrets: list[tuple[bool, int, int, bytes]]

    def receive(self, epoch: int, data: bytes) -> None: ...

    def take_output(self, epoch: int) -> bytes: ...


class Native:
    """Our side, and what it told."""

    version = VERSION_1
    original_version = VERSION_1

    def __init__(self, make: Callable[["Native"], "NativeTls"], parameters: bytes | None) -> None:
        self.secrets: list[tuple[bool, int, int, bytes]] = []
        self.peer_parameters: bytes | None = None
        self.remembered: bytes | None = None
        self.completed = self.early_data_refused = 0
        self.answer = parameters
        self.tls = make(self)

    def on_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None:
        assert type(secret) is bytes
        self.secrets.append((sending, epoch, int(cipher_suite), secret))

    def on_peer_parameters(self, encoded: bytes) -> bytes | None:
        assert self.peer_parameters is None
        self.peer_parameters = encoded
        return self.answer

    def remember_parameters(self, encoded: bytes) -> None:
        self.remembered = encoded

    def on_early_data_refused(self) -> None:
        self.early_data_refused += 1

    def on_handshake_complete(self) -> None:
        self.completed += 1

    def receive(self, epoch: int, data: bytes) -> None:
        self.tls.receive(epoch, data)

    def take_output(self, epoch: int) -> bytes:
        return self.tls.take_output(epoch)


# The native engine is there only where its kernels are built.


def native_server(parameters: ServerParameters) -> Native:
    from spooky.protocol.quic.native_tls import server_tls

    return Native(lambda side: server_tls(parameters, side), SERVER_PARAMETERS)


def native_client(parameters: ClientParameters, server_name: str = "example.test") -> Native:
    from spooky.protocol.quic.native_tls import client_tls

    side = Native(lambda side: client_tls(parameters, server_name, side), None)
    side.tls.start(CLIENT_PARAMETERS)
    return side


class Bare:
    """A context of aioquic's, as its own connection drives it."""

    def __init__(self, context: tls.Context, parameters: bytes) -> None:
        self.context = context
        self.secrets: list[tuple[bool, int, int, bytes]] = []
        self.buffers = {epoch: Buffer(capacity=16384) for epoch in [*EPOCHS][:3]}
        context.handshake_extensions = [(0x39, parameters)]
        context.update_traffic_key_cb = self.on_secret

    def on_secret(
        self, direction: tls.Direction, epoch: tls.Epoch, suite: tls.CipherSuite, secret: bytes
    ) -> None:
        self.secrets.append((direction is tls.Direction.ENCRYPT, EPOCHS[epoch], int(suite), secret))

    def start(self) -> "Bare":
        self.context.handle_message(b"", self.buffers)
        return self

    def receive(self, epoch: int, data: bytes) -> None:
        self.context.handle_message(data, self.buffers)

    def take_output(self, epoch: int) -> bytes:
        buffer = self.buffers[[*EPOCHS][epoch]]
        data = buffer.data
        buffer.seek(0)
        return data


def pieces(data: bytes, rng: random.Random) -> Sequence[bytes]:
    """Cut data at random places."""
    cuts = sorted(rng.sample(range(len(data) + 1), min(rng.randrange(6), len(data))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def exchange(client: Side, server: Side, seed: int = 0) -> None:
    """Deliver what either side has to say to the other, until none says anything more."""
    rng = random.Random(seed)
    busy = True
    while busy:
        busy = False
        for sender, receiver in ((client, server), (server, client)):
            for level in LEVELS:
                data = sender.take_output(level)
                busy = busy or bool(data)
                for piece in pieces(data, rng):
                    receiver.receive(level, piece)


def mirrored(secrets: list[tuple[bool, int, int, bytes]]) -> set[tuple[bool, int, int, bytes]]:
    """Return the secrets as the other side should have them."""
    return {(not sending, level, suite, secret) for sending, level, suite, secret in secrets}
