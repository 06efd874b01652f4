# cython: annotation_typing=False
"""Whether a host may be asked for over a connection, where that was asked before.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`. What decides is in
``generation/authorities.py``, whose classes extend the ones here.
"""

from abc import abstractmethod
from typing import Any


class CoveredHosts:
    """The hosts that connections with one handshake are good for.

    Attributes:
        known: What was decided, by host.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, bool] = {}

    @abstractmethod
    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """


class Authorities:
    """What may be asked for over the connections of one listener.

    Arguments:
        is_checked: Whether not all may be.
    """

    def __init__(self, is_checked: bool) -> None:
        self._is_checked = is_checked
        self._covered: dict[Any, CoveredHosts] = {}

    def includes(self, handshake: Any, host: bytes) -> bool:
        """Return whether a host may be asked for over a connection now.

        Arguments:
            handshake: The connection's, of these authorities or of some before.
            host: In lowercase, without a port.
        """
        if not self._is_checked:
            return True
        covered = self._covered.get(handshake)
        if covered is None:
            covered = self._covered[handshake] = self._cover(handshake)
        known = covered.known.get(host)
        return covered.includes(host) if known is None else known

    @abstractmethod
    def _cover(self, handshake: Any) -> CoveredHosts:
        """Return the hosts that connections with a handshake are good for."""


class ConnectionAuthority:
    """The hosts that one connection is good for, by what is in force when one is asked for.

    A change may put a host behind client certificates while a connection lives that would reach it
    without one: routes are those of the generation in force, so this is too.

    Arguments:
        handshake: The connection's.
        listener: Has the authorities in force in its ``settings``.
    """

    def __init__(self, handshake: Any, listener: Any) -> None:
        self._handshake = handshake
        self._listener = listener

    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """
        # Asked for each time: what is remembered would keep certificates that were replaced.
        authorities: Authorities = self._listener.settings.authorities
        return authorities.includes(self._handshake, host)
