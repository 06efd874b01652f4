"""Packets no honest client sends, protected as if one did."""

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair

from spooky.protocol.quic.packet import VERSION_1
from spooky.protocol.quic.session import Datagram
from tests.protocol.quic.support import Pair
from tests.simnet import CLIENT


def varint(value: int) -> bytes:
    buffer = Buffer(capacity=8)
    buffer.push_uint_var(value)
    return buffer.data


def stream_frame(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    header = bytes((0x0E | fin,)) + varint(stream_id) + varint(offset) + varint(len(data))
    return header + data


def crypto_frame(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def new_connection_id(sequence: int, retire_prior_to: int) -> bytes:
    connection_id = sequence.to_bytes(8, "big")
    return (
        b"\x18" + varint(sequence) + varint(retire_prior_to) + b"\x08" + connection_id + bytes(16)
    )


def packet(pair: Pair, frames: bytes) -> bytes:
    """Protect frames as the client's next 1-RTT packet."""
    quic = pair.client._quic
    number = quic._packet_number
    quic._packet_number += 1
    crypto = quic._cryptos[tls.Epoch.ONE_RTT]
    first = 0x41 | crypto.key_phase << 2
    header = bytes((first,)) + quic._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    return crypto.encrypt_packet(header, frames + bytes(max(0, 4 - len(frames))), number)


def send(pair: Pair, *frames: bytes) -> None:
    """Give the server a packet of these frames."""
    batch = [Datagram(packet(pair, b"".join(frames)), CLIENT)]
    pair.server_host.deliver(batch, pair.network.now)


class Initials:
    """Initial packets of a client that says what it likes."""

    def __init__(self, destination: bytes = b"destined", source: bytes = b"source01") -> None:
        self.destination, self.source = destination, source
        self._crypto = CryptoPair()
        self._crypto.setup_initial(cid=destination, is_client=True, version=VERSION_1)
        self._number = 0

    def __call__(self, frames: bytes) -> Datagram:
        """Protect frames, filled up to a full datagram."""
        header = (
            b"\xc1"
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
