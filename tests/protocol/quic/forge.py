"""Packets no honest client sends, protected as if one did."""

from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, encode_long_header_first_byte

from spooky.protocol.quic.packet import VERSION_1
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.support import Endpoints, Pair
from tests.scenario.frames import FrameType
from tests.scenario.observer import Observer
from tests.simnet import CLIENT, SERVER

PACKET_TYPES = {
    tls.Epoch.INITIAL: QuicPacketType.INITIAL,
    tls.Epoch.ZERO_RTT: QuicPacketType.ZERO_RTT,
    tls.Epoch.HANDSHAKE: QuicPacketType.HANDSHAKE,
}


def varint(value: int) -> bytes:
    buffer = Buffer(capacity=8)
    buffer.push_uint_var(value)
    return buffer.data


def stream_frame(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    header = bytes((0x0E | fin,)) + varint(stream_id) + varint(offset) + varint(len(data))
    return header + data


def crypto_frame(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def new_connection_id(
    sequence: int, retire_prior_to: int, connection_id: bytes | None = None
) -> bytes:
    if connection_id is None:
        connection_id = sequence.to_bytes(8, "big")
    return (
        b"\x18"
        + varint(sequence)
        + varint(retire_prior_to)
        + bytes((len(connection_id),))
        + connection_id
        + bytes(16)
    )


def packet(
    pair: Endpoints[Any], frames: bytes, epoch: tls.Epoch = tls.Epoch.ONE_RTT, reserved: int = 0
) -> bytes:
    """Protect frames as the next packet of a client on aioquic.

    Args:
        pair: Whose client speaks.
        frames: All that is in the packet; there may be none.
        epoch: What kind of packet it is, if the client has the keys.
        reserved: The two reserved bits.
    """
    quic = pair.client._quic
    number = quic._packet_number
    quic._packet_number += 1
    crypto = quic._cryptos[epoch]
    # Packet numbers of four bytes leave enough to sample of a packet without frames.
    encoded = number.to_bytes(4, "big")
    destination = quic._peer_cid.cid
    if epoch is tls.Epoch.ONE_RTT:
        first = 0x43 | reserved << 3 | crypto.key_phase << 2
        header = bytes((first,)) + destination + encoded
    else:
        first = encode_long_header_first_byte(quic._version, PACKET_TYPES[epoch], 3) | reserved << 2
        header = bytes((first,)) + quic._version.to_bytes(4, "big")
        for connection_id in (destination, quic.host_cid):
            header += bytes((len(connection_id),)) + connection_id
        header += (0x4000 | 4 + len(frames) + 16).to_bytes(2, "big") + encoded
    return crypto.encrypt_packet(header, frames, number)


def send(
    pair: Endpoints[Any], *frames: bytes, epoch: tls.Epoch = tls.Epoch.ONE_RTT, reserved: int = 0
) -> None:
    """Give the server a packet of these frames."""
    batch = [Datagram(packet(pair, b"".join(frames), epoch, reserved), CLIENT)]
    pair.server_host.deliver(batch, pair.network.now)


def closed_with(pair: Endpoints[Any], *codes: int) -> None:
    """Expect the server to close with one of these codes, and the client to hear of it."""
    assert pair.run(lambda: bool(pair.server_handler.closes), 5), "the connection is still open"
    close = pair.server_handler.closes[0]
    assert close.error_code in codes
    assert (close.is_application, close.by_peer) == (False, False)
    assert pair.run(lambda: bool(pair.client_handler.closes), 5)
    heard = pair.client_handler.closes[0]
    assert (heard.error_code, heard.by_peer) == (close.error_code, True)


def client_hello(source: bytes = b"") -> bytes:
    """Return the ClientHello of a client on aioquic, which names this connection ID if given."""
    pair = Pair()
    if source:
        pair.client._quic._local_initial_source_connection_id = source
        pair.client._quic._connect(pair.network.now)
    pair.run(seconds=0.001)
    sent = list(Observer("", SERVER).read(pair.network.sent))
    frames = [frame for packet in sent for frame in packet.frames]
    pieces = {f.numbers[0]: f.data for f in frames if f.type is FrameType.CRYPTO}
    return b"".join(pieces[offset] for offset in sorted(pieces))


class Initials:
    """Initial packets of a client that says what it likes."""

    def __init__(self, destination: bytes = b"destined", source: bytes = b"source01") -> None:
        self.destination, self.source = destination, source
        # As of a packet number of two bytes.
        self.first_byte = 0xC1
        self._crypto = CryptoPair()
        self._crypto.setup_initial(cid=destination, is_client=True, version=VERSION_1)
        self._number = 0

    def __call__(self, frames: bytes) -> Datagram:
        """Protect frames, filled up to a full datagram."""
        header = (
            bytes((self.first_byte,))
            + VERSION_1.to_bytes(4, "big")
            + bytes((len(self.destination),))
            + self.destination
            + bytes((len(self.source),))
            + self.source
            + b"\x00"
        )
        payload = frames + bytes(1200 - len(header) - 4 - len(frames) - 16)
        header += (0x4000 | 2 + len(payload) + 16).to_bytes(2, "big")
        header += self._number.to_bytes(2, "big")
        self._number += 1
        return Datagram(self._crypto.encrypt_packet(header, payload, self._number - 1), CLIENT)
