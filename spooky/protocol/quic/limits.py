"""What a peer may make a connection remember, wait for and do; none of it is configured."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a connection goes along with its peer.

    Both engines heed the first three. aioquic has numbers of its own for the others.

    Attributes:
        stream_pieces: Ranges of all streams that wait for what comes before them (attack 11). The
            largest connection window holds 12,000 packets, and at a loss rate of 10 % about half
            as many ranges as this; quic-go allows 1,000 for each stream.
        crypto_ahead_bytes: How far CRYPTO data may run ahead of its turn (attack 12); at least
            4096 (RFC 9000 section 7.5).
        crypto_pieces: Ranges of CRYPTO data that wait for their turn; clients that shuffle their
            hello on purpose make some ten.
        retirements: Retirements of connection IDs that wait for their acknowledgment (attack 17):
            a peer that makes us retire more does not answer them on purpose (CVE-2024-22189).
        other_paths: Paths besides the current one that are looked after (attack 19); each is an
            address that sent a packet.
        skip_period: After so many packets at first, and ever more later, a packet number is left
            out, to catch a peer that acknowledges what it did not receive (attack 20): first soon,
            while it pays most; then seldom, since each number left out costs the peer a range until
            we say that we have its ACK.
        ack_ranges: Ranges of packet numbers received that are remembered (attack 21): what an ACK
            frame can say at most (RFC 9000 section 13.2.3), in one byte of its range count, and in
            a packet beside other frames.
    """

    stream_pieces: int = 2_000
    crypto_ahead_bytes: int = 64 * 1024
    crypto_pieces: int = 100
    retirements: int = 32
    other_paths: int = 4
    skip_period: int = 64
    ack_ranges: int = 64


DEFAULT_LIMITS: Final = Limits()
