"""Which authorities may be asked for over a connection: those that its handshake was good for."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spooky.config.schema import ClientAuth, Listener
from spooky.generation.certificates import ListenerTls
from spooky.protocol.quic.certificates import CertificateChain, normalize_server_name, wildcard_of

REMEMBERED_MAX: Final = 1024
"""Hosts of one certificate whose answer is remembered; clients choose them."""

HOST_MAX: Final = 255
"""The longest host, in bytes, brackets and a final dot included: no certificate covers more."""

EXACT, WILDCARD, NOTHING = 2, 1, 0


@dataclass(frozen=True, slots=True, eq=False)
class Handshake:
    """What a handshake showed, as far as it decides what may be asked for after it.

    Connections keep it and no more: certificates would keep keys that were replaced.

    Attributes:
        names: Those of the certificate that the client was shown.
        client_auth: What the client was asked for.
        has_server_name: Whether the client asked for a name.
    """

    names: frozenset[str]
    client_auth: ClientAuth
    has_server_name: bool


class Authorities:
    """What may be asked for over the connections of one listener.

    Arguments:
        own: The listener, and what it presents.
        all_listeners: All listeners in force, and what they present.
    """

    def __init__(
        self,
        own: tuple[Listener, ListenerTls],
        all_listeners: Sequence[tuple[Listener, ListenerTls]],
    ) -> None:
        listener, tls = own
        self._selector = tls.selector
        self._is_checked = listener.tls.strict_authority
        self._client_auth = listener.tls.client_auth
        self._names = tls.names
        self._listeners = [(other.tls.client_auth, tls.names) for other, tls in all_listeners]
        self._handshakes: dict[tuple[CertificateChain, bool], Handshake] = {}
        self._covered: dict[Handshake, CoveredHosts] = {}

    def handshake_by_name(self, server_name: str | None) -> Handshake | None:
        """Return what the handshake of a client showed that asked for a name.

        Arguments:
            server_name: As the client sent it.

        Returns:
            ``None`` if no certificate was shown.
        """
        chain = self._selector.select(normalize_server_name(server_name))
        return self.handshake(chain, has_server_name=server_name is not None)

    def handshake(
        self, chain: CertificateChain | None, *, has_server_name: bool
    ) -> Handshake | None:
        """Return what a handshake showed, likewise.

        Arguments:
            chain: The certificate.
            has_server_name: Whether the client asked for a name.
        """
        if chain is None:
            return None
        key = (chain, has_server_name)
        shown = self._handshakes.get(key)
        if shown is None:
            shown = Handshake(chain.names, self._client_auth, has_server_name)
            self._handshakes[key] = shown
        return shown

    def of(self, handshake: Handshake) -> "CoveredHosts | None":
        """Return what a connection is good for now; ``None`` if that is not checked.

        Arguments:
            handshake: Its own, of these authorities or of some before.
        """
        if not self._is_checked:
            return None
        covered = self._covered.get(handshake)
        if covered is None:
            asked = handshake.client_auth
            # Those that ask the same of clients are as good as what the client was asked for.
            others = [names for other, names in self._listeners if not _ask_alike(asked, other)]
            own = self._names if _ask_alike(asked, self._client_auth) else handshake.names
            covered = self._covered[handshake] = CoveredHosts(handshake, own, others)
        return covered


class ConnectionAuthority:
    """The hosts that one connection is good for, by what is in force when one is asked for.

    A change may put a host behind client certificates while a connection lives that would reach it
    without one: routes are those of the generation in force, so this is too.

    Arguments:
        handshake: The connection's.
        in_force: Returns the authorities of its listener.
    """

    __slots__ = ("_asked", "_covered", "_handshake", "_in_force")

    def __init__(self, handshake: Handshake, in_force: Callable[[], Authorities]) -> None:
        self._handshake = handshake
        self._in_force = in_force
        self._asked: Authorities | None = None
        self._covered: CoveredHosts | None = None

    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """
        authorities = self._in_force()
        if authorities is not self._asked:
            self._asked = authorities
            self._covered = authorities.of(self._handshake)
        return self._covered is None or self._covered.includes(host)


class CoveredHosts:
    """The hosts that connections with one certificate of a listener are good for.

    Those whose certificate covers them (RFC 9110 section 7.4), unless a listener that asks for
    other client certificates has a closer one: then the client has not shown there what that host
    asks for. So a wildcard certificate opens no host that is served under its own name behind
    client certificates.

    What the certificate covers is not asked where it names no host at all, as that would refuse
    every request, nor for an address that was connected to without a server name: TLS has no way
    to say which address is meant (RFC 6066 section 3), so the client did not choose a host.

    Arguments:
        handshake: What was shown.
        own: The names of all certificates of its listener.
        others: Those of each listener that asks something else of clients.
    """

    def __init__(
        self, handshake: Handshake, own: frozenset[str], others: Sequence[frozenset[str]]
    ) -> None:
        self._names = handshake.names
        self._takes_addresses = not handshake.has_server_name
        self._own = own
        self._others = others
        self._known: dict[bytes, bool] = {}

    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """
        if len(host) > HOST_MAX:
            return False
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            known = self._known[host] = self._decide(*_name(host))
        return known

    def _decide(self, name: str, is_address: bool) -> bool:
        is_asked = self._names and not (is_address and self._takes_addresses)
        if is_asked and _closeness(self._names, name) == NOTHING:
            return False
        if not self._others:
            return True
        own = _closeness(self._own, name)
        return all(_closeness(other, name) <= own for other in self._others)


def _name(host: bytes) -> tuple[str, bool]:
    """Return a host as certificates have it, and whether it is an address."""
    name = host.decode("ascii", "replace").strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name)), True
    except ValueError:
        return name, False


def _closeness(names: frozenset[str], name: str) -> int:
    """Return how closely the best of the names of certificates is a host's."""
    if name in names:
        return EXACT
    return WILDCARD if wildcard_of(name) in names else NOTHING


def _ask_alike(one: ClientAuth, other: ClientAuth) -> bool:
    """Return whether two listeners ask the same of clients."""
    return one == other or not (one.enabled or other.enabled)
