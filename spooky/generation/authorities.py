"""Which authorities may be asked for over a connection: those that its handshake was good for."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from spooky.config.schema import ClientAuth, Listener
from spooky.generation.certificates import ListenerTls
from spooky.protocol.quic.certificates import CertificateChain, normalize_server_name

REMEMBERED_MAX: Final = 1024
"""Hosts of one certificate whose answer is remembered; clients choose them."""

EXACT, WILDCARD, NOTHING = 2, 1, 0


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
        listener, self._tls = own
        self._is_checked = listener.tls.strict_authority
        policy = listener.tls.client_auth
        # Those that ask the same of clients are as good as this one.
        self._others = [
            tls for other, tls in all_listeners if not _ask_alike(policy, other.tls.client_auth)
        ]
        self._covered: dict[CertificateChain, CoveredHosts] = {}

    def of_server_name(self, server_name: str | None) -> "CoveredHosts | None":
        """Return what a connection is good for whose client asked for a name.

        Arguments:
            server_name: As the client sent it.

        Returns:
            ``None`` if it is not checked.
        """
        return self.of(self._tls.selector.select(normalize_server_name(server_name)))

    def of(self, chain: CertificateChain | None) -> "CoveredHosts | None":
        """Return what a connection is good for that was shown a certificate, likewise."""
        if chain is None or not self._is_checked:
            return None
        covered = self._covered.get(chain)
        if covered is None:
            covered = self._covered[chain] = CoveredHosts(chain, self._tls, self._others)
        return covered


class CoveredHosts:
    """The hosts that connections with one certificate of a listener are good for.

    Those whose certificate covers them (RFC 9110 section 7.4), unless a listener that asks for
    other client certificates has a closer one: then the client has not shown there what that host
    asks for. So a wildcard certificate opens no host that is served under its own name behind
    client certificates.

    Arguments:
        chain: The certificate.
        own: What its listener presents.
        others: What listeners present that ask something else of clients.
    """

    def __init__(
        self, chain: CertificateChain, own: ListenerTls, others: Sequence[ListenerTls]
    ) -> None:
        self._chain = chain
        self._own = own
        self._others = others
        self._known: dict[bytes, bool] = {}

    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            known = self._known[host] = self._decide(_name(host))
        return known

    def _decide(self, name: str) -> bool:
        if not self._chain.covers(name):
            return False
        own = _closeness(self._own, name)
        return all(_closeness(other, name) <= own for other in self._others)


def _name(host: bytes) -> str:
    """Return a host as certificates have it."""
    name = host.decode("ascii", "replace").strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _closeness(tls: ListenerTls, name: str) -> int:
    """Return how closely the best certificate of a listener names a host."""
    found = NOTHING
    for chain in tls.selector.chains:
        if name in chain.names:
            return EXACT
        if chain.covers(name):
            found = WILDCARD
    return found


def _ask_alike(one: ClientAuth, other: ClientAuth) -> bool:
    """Return whether two listeners ask the same of clients."""
    return one == other or not (one.enabled or other.enabled)
