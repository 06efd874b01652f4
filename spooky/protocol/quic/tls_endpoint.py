"""What TLS 1.3 and the native engine say to each other."""

from typing import Final, Protocol

INITIAL: Final = 0
HANDSHAKE: Final = 1
APPLICATION: Final = 2
EARLY: Final = 3
"""Encryption levels, as the engine numbers them; the last is that of 0-RTT, without CRYPTO data."""

QUIC_TRANSPORT_PARAMETERS: Final = 0x39
"""The extension of RFC 9001 section 8.2."""


class TlsEvents(Protocol):
    """What TLS tells the engine, from inside ``start`` and ``receive``.

    Attributes:
        version: The QUIC version in use, settled once the peer's parameters are known.
        original_version: That of the client's first packet.
    """

    @property
    def version(self) -> int: ...

    @property
    def original_version(self) -> int: ...

    def on_secret(self, sending: bool, epoch: int, cipher_suite: int, secret: bytes) -> None:
        """Take a traffic secret, in the order in which TLS derives them.

        Arguments:
            sending: Whether we send under it.
            epoch: The encryption level.
            cipher_suite: Its number in RFC 8446, appendix B.4.
            secret: Where keys come from (RFC 9001 section 5.1).
        """

    def on_peer_parameters(self, encoded: bytes) -> bytes | None:
        """Take the peer's transport parameters, as soon as they are known.

        Returns:
            For a server its own parameters, encoded, which may depend on the peer's; else ``None``.

        Raises:
            QuicError: They are not acceptable. It ends the handshake as it is.
        """

    def remember_parameters(self, encoded: bytes) -> None:
        """Take the server's transport parameters of the session that a client offers to resume."""

    def on_early_data_refused(self) -> None:
        """Learn that a client's 0-RTT data is not taken, and that no more is to be sent."""

    def on_handshake_complete(self) -> None:
        """Learn that the handshake is complete (RFC 9001 section 4.1.1)."""
