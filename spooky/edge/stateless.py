"""What a QUIC listener says to clients that have no connection, within what it may say."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spooky._core import reasons
from spooky._core.arrivals import SECOND, source_of
from spooky._core.balance import hash_key
from spooky._core.reasons import Reason
from spooky.config.performance import RetryPolicy
from spooky.edge.limits import RateLimits, bucket
from spooky.observe.counters import Counters
from spooky.protocol.quic.packet import PacketHeader, version_negotiation
from spooky.protocol.quic.parameters import ServerParameters
from spooky.protocol.quic.session import Address, Transmit
from spooky.protocol.quic.stateless import (
    invalid_token_close,
    refusal_close,
    retry_packet,
    stateless_reset,
)
from spooky.protocol.quic.tokens import AddressProof, AddressTokens, InvalidTokenError, UsedTokens

RESETS: Final = RateLimits(per_second=1_000, burst=2_000, source_per_second=20, source_burst=100)
"""Stateless resets of one listener, over all workers, and to one source. After a worker died, each
of its connections costs one or two; a flood of packets of no connection must not be answered one by
one. A source may be a translator with many clients behind it."""


@dataclass(frozen=True, slots=True)
class AddressSettings:
    """How clients prove their addresses.

    Attributes:
        retry: Who has to.
        tokens: What proves it.
        new_connections_rate: How many connections may begin in a second, of all listeners.
    """

    retry: RetryPolicy
    tokens: AddressTokens
    new_connections_rate: float


class StatelessAnswers:
    """Answers of a listener to packets of no connection; each is counted.

    Arguments:
        listener: Names it: its address and port.
        counters: The worker's slots.
        send: Sends a datagram.
        resets: How many stateless resets it sends.
    """

    def __init__(
        self,
        listener: str,
        counters: Counters,
        send: Callable[[Transmit], None],
        resets: RateLimits = RESETS,
    ) -> None:
        self._listener = listener
        self._segment = counters.segment
        self._send = send
        self._used = UsedTokens()
        self._values = counters.values
        self._refused = counters.reason_slots("connections_refused_total")
        self._resets = counters.slot("stateless_resets_sent_total")
        self._accepted_retry, self._accepted_new_token = (
            counters.slot("address_tokens_accepted_total", {"from": frame})
            for frame in ("retry", "new_token")
        )
        self._resets_key = hash_key(f"stateless resets of {listener}".encode())
        self._resets_bucket = bucket(resets.per_second, resets.burst)
        self._source_bucket = bucket(resets.source_per_second, resets.source_burst)

    def count(self, reason: Reason) -> None:
        """Count a packet that begins no connection and belongs to none."""
        self._values[self._refused[reason.index]] += 1

    def negotiate_version(
        self, header: PacketHeader, parameters: ServerParameters, source: Address
    ) -> None:
        """Answer a packet of a version that is not spoken, if it may begin a connection."""
        self.count(reasons.UNSUPPORTED_VERSION)
        answer = version_negotiation(header, parameters.versions)
        if answer is not None:
            self._answer(answer, source)

    def retry(
        self,
        header: PacketHeader,
        source: Address,
        tokens: AddressTokens,
        connection_id: bytes,
        now: float,
        reason: Reason,
    ) -> None:
        """Have a client prove its address (RFC 9000 section 8.1.2).

        Arguments:
            header: Of its Initial packet.
            tokens: What proves an address.
            connection_id: What the client addresses its next packets to.
            now: Seconds since the epoch.
            reason: Why it has to.
        """
        token = tokens.for_retry(source, header.destination_connection_id, connection_id, now)
        self._answer(retry_packet(header, connection_id, token), source)
        self.count(reason)

    def refuse(
        self,
        header: PacketHeader,
        token: bytes,
        source: Address,
        tokens: AddressTokens,
        now: float,
    ) -> None:
        """Refuse one too many, and say so to a client whose token proves its address.

        Others get no answer: whoever forges addresses would have it cost the most.

        Arguments:
            now: Seconds since the epoch.
        """
        self.count(reasons.OVERLOAD_REFUSED)
        with contextlib.suppress(InvalidTokenError):
            proof = _proof(header, token, source, tokens, now)
            if proof is not None:
                self._answer(refusal_close(header), source)

    def check_token(
        self, header: PacketHeader, token: bytes, source: Address, tokens: AddressTokens, now: float
    ) -> AddressProof | Reason | None:
        """Return what the token of an Initial packet proves.

        Arguments:
            now: Seconds since the epoch.

        Returns:
            ``None`` if that is nothing; a reason if it is a Retry's and does not hold, which the
            client was told.
        """
        try:
            proof = _proof(header, token, source, tokens, now)
        except InvalidTokenError:
            return self._refuse_token(header, source)
        if proof is None or proof not in self._used:
            return proof
        if proof.original_destination_connection_id is None:
            return None
        # A Retry's token was used before.
        return self._refuse_token(header, source)

    def _refuse_token(self, header: PacketHeader, source: Address) -> Reason:
        self._answer(invalid_token_close(header), source)
        return reasons.INVALID_TOKEN

    def use(self, proof: AddressProof) -> None:
        """Count a token as the beginning of a connection; it serves for no other."""
        self._used.add(proof)
        by_retry = proof.original_destination_connection_id is not None
        self._values[self._accepted_retry if by_retry else self._accepted_new_token] += 1

    def reset(
        self,
        header: PacketHeader,
        parameters: ServerParameters,
        source: Address,
        now: float,
    ) -> None:
        """Tell the sender of a short header that its connection is no more, if it may be told.

        Arguments:
            now: Seconds on the monotonic clock.
        """
        make_token = parameters.reset_token
        answer = None
        if make_token is not None:
            answer = stateless_reset(header, make_token(header.destination_connection_id))
        if answer is None:
            self.count(reasons.UNKNOWN_CONNECTION)
        elif not self._may_reset(source, now):
            self.count(reasons.STATELESS_RESET_RATE)
        else:
            self.count(reasons.UNKNOWN_CONNECTION)
            self._values[self._resets] += 1
            self._answer(answer, source)

    def _may_reset(self, source: Address, now: float) -> bool:
        nanoseconds = int(now * SECOND)
        key = hash_key(f"stateless resets to {source_of(source[0])}".encode())
        return self._segment.take_source_rate(
            key, nanoseconds, *self._source_bucket
        ) and self._segment.take_rate(self._resets_key, nanoseconds, *self._resets_bucket)

    def _answer(self, packet: bytes, source: Address) -> None:
        self._send(Transmit(packet, len(packet), source))


def _proof(
    header: PacketHeader, token: bytes, source: Address, tokens: AddressTokens, now: float
) -> AddressProof | None:
    """Return what the token of an Initial packet proves."""
    destination, version = header.destination_connection_id, header.version or 0
    return tokens.check(token, source, destination, version, now)
