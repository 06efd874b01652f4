"""Reads what went over a simulated network, with the secrets that an endpoint logged.

So scenarios can ask what an engine did on the wire without knowing how it is made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aioquic._crypto import CryptoError
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoContext, CryptoPair, next_key_phase
from aioquic.quic.packet import QuicHeader, QuicPacketType, pull_quic_header
from aioquic.tls import CipherSuite

from spooky.protocol.quic.parameters import VERSIONS
from spooky.protocol.quic.session import Address
from tests.scenario.frames import Frame, FrameType, parse_frames

LABELS = {
    "CLIENT_EARLY_TRAFFIC_SECRET": (True, QuicPacketType.ZERO_RTT),
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": (True, QuicPacketType.HANDSHAKE),
    "SERVER_HANDSHAKE_TRAFFIC_SECRET": (False, QuicPacketType.HANDSHAKE),
    "CLIENT_TRAFFIC_SECRET_0": (True, QuicPacketType.ONE_RTT),
    "SERVER_TRAFFIC_SECRET_0": (False, QuicPacketType.ONE_RTT),
}
"""Of the key log: who protects which packets with the secret; a client if true."""

KEY_PHASE = 0x04


class Packet(NamedTuple):
    """A packet that was sent.

    Attributes:
        time: When; seconds.
        source: From where.
        destination: To where.
        type: What kind of packet.
        version: Of a long header.
        destination_connection_id: Whom it is for.
        number: Its packet number; -1 if it is not protected.
        key_generation: How many key updates its keys have seen.
        frames: What it says, without PADDING.
    """

    time: float
    source: Address
    destination: Address
    type: QuicPacketType
    version: int | None
    destination_connection_id: bytes
    number: int
    key_generation: int
    frames: list[Frame]

    def has(self, kind: FrameType) -> bool:
        """Return whether it has a frame of this type."""
        return any(frame.type is kind for frame in self.frames)


@dataclass
class Direction:
    """What is known of one endpoint's protection.

    Attributes:
        initial: Contexts of Initial packets that may be in use.
        later: Contexts of the other long headers.
        generations: Those of short headers, one per key update.
        largest: Highest packet number seen, by kind of packet.
    """

    initial: list[CryptoContext] = field(default_factory=list)
    later: dict[QuicPacketType, CryptoContext] = field(default_factory=dict)
    generations: list[CryptoContext] = field(default_factory=list)
    largest: dict[QuicPacketType, int] = field(default_factory=dict)


class Observer:
    """Decrypts a recorded exchange of one client.

    Arguments:
        secrets: What either endpoint wrote to its secrets log.
        server: The server's address.

    Attributes:
        cipher_suite: What the server chose.
        unreadable: Packets that could not be opened.
    """

    def __init__(self, secrets: str, server: Address) -> None:
        self._server = server
        self._secrets = _parse_secrets(secrets)
        self._ends: Mapping[bool, Direction] = {True: Direction(), False: Direction()}
        self._keyed: set[bytes] = set()
        self._client_id_length = 8
        self.cipher_suite: CipherSuite | None = None
        self.unreadable = 0

    def read(self, sent: list[tuple[float, Address, Address, bytes]]) -> Iterator[Packet]:
        """Yield the packets of datagrams, in order; ``unreadable`` counts the rest."""
        for time, source, destination, payload in sent:
            is_client = source != self._server
            buffer = Buffer(data=payload)
            while not buffer.eof():
                start = buffer.tell()
                length = 8 if is_client else self._client_id_length
                try:
                    header = pull_quic_header(buffer, host_cid_length=length)
                except ValueError:
                    # Zeros after the last packet of a datagram fill it up.
                    self.unreadable += any(payload[start:])
                    break
                end = start + header.packet_length
                opened = self._open(is_client, header, payload[start:end], buffer.tell() - start)
                buffer.seek(end)
                if opened is None:
                    self.unreadable += 1
                    continue
                number, generation, frames = opened
                yield Packet(
                    time, source, destination, header.packet_type, header.version,
                    header.destination_cid, number, generation, frames,
                )  # fmt: skip

    def _open(
        self, is_client: bool, header: QuicHeader, packet: bytes, protected_at: int
    ) -> tuple[int, int, list[Frame]] | None:
        kind = header.packet_type
        if kind in (QuicPacketType.VERSION_NEGOTIATION, QuicPacketType.RETRY):
            return -1, 0, []
        if kind is QuicPacketType.INITIAL and is_client:
            self._client_id_length = len(header.source_cid)
            self._key_initials(header)
        if kind is QuicPacketType.ZERO_RTT and kind not in self._ends[is_client].later:
            self._key_early(header)
        end = self._ends[is_client]
        for generation, context in self._candidates(is_client, kind):
            expected = end.largest.get(kind, -1) + 1
            try:
                plain, payload, number, _ = context.decrypt_packet(packet, protected_at, expected)
            except CryptoError:
                continue
            end.largest[kind] = max(number, expected - 1)
            frames = parse_frames(payload)
            if kind is QuicPacketType.INITIAL and not is_client:
                self._read_server_hello(header, frames)
            if kind is not QuicPacketType.ONE_RTT:
                return number, 0, frames
            generation += bool(plain[0] & KEY_PHASE) != bool(generation & 1)
            self._update_keys(end, generation)
            return number, generation, frames
        return None

    def _candidates(self, is_client: bool, kind: QuicPacketType) -> list[tuple[int, CryptoContext]]:
        end = self._ends[is_client]
        if kind is QuicPacketType.INITIAL:
            return [(0, context) for context in reversed(end.initial)]
        if kind is QuicPacketType.ONE_RTT:
            return list(enumerate(end.generations))[::-1]
        return [(0, end.later[kind])] if kind in end.later else []

    def _key_initials(self, header: QuicHeader) -> None:
        if header.destination_cid in self._keyed:
            return
        self._keyed.add(header.destination_cid)
        for version in VERSIONS:
            pair = CryptoPair()
            pair.setup_initial(cid=header.destination_cid, is_client=True, version=version)
            self._ends[True].initial.append(pair.send)
            self._ends[False].initial.append(pair.recv)

    def _key_early(self, header: QuicHeader) -> None:
        """Set up what comes before the server chose a cipher suite: all of ours use the first."""
        secret = self._secrets.get((True, QuicPacketType.ZERO_RTT))
        if secret is not None:
            context = self._ends[True].later[QuicPacketType.ZERO_RTT] = CryptoContext()
            suite = CipherSuite.AES_128_GCM_SHA256
            context.setup(cipher_suite=suite, secret=secret, version=header.version or 0)

    def _read_server_hello(self, header: QuicHeader, frames: list[Frame]) -> None:
        """Learn the cipher suite, and with it what the logged secrets are for."""
        for frame in frames:
            if frame.type is FrameType.CRYPTO and frame.numbers == (0,):
                # Message type and length, version, random, session ID; then the cipher suite.
                at = 4 + 2 + 32 + 1 + frame.data[38]
                self.cipher_suite = CipherSuite(int.from_bytes(frame.data[at : at + 2], "big"))
        if self.cipher_suite is None or self._ends[True].generations:
            return
        for (is_client, kind), secret in self._secrets.items():
            context = CryptoContext()
            context.setup(
                cipher_suite=self.cipher_suite, secret=secret, version=header.version or 0
            )
            if kind is QuicPacketType.ONE_RTT:
                self._ends[is_client].generations.append(context)
            else:
                self._ends[is_client].later[kind] = context

    def _update_keys(self, end: Direction, generation: int) -> None:
        while len(end.generations) <= generation:
            last = end.generations[-1]
            following = next_key_phase(last)
            following.hp = last.hp
            end.generations.append(following)


def _parse_secrets(log: str) -> dict[tuple[bool, QuicPacketType], bytes]:
    secrets = {}
    for line in log.splitlines():
        label, _, secret = line.split()
        if label in LABELS:
            secrets[LABELS[label]] = bytes.fromhex(secret)
    return secrets
