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
        self._covered: dict[tuple[CertificateChain, bool], CoveredHosts] = {}

    def of_server_name(self, server_name: str | None) -> "CoveredHosts | None":
        """Return what a connection is good for whose client asked for a name.

        Arguments:
            server_name: As the client sent it.

        Returns:
            ``None`` if it is not checked.
        """
        chain = self._tls.selector.select(normalize_server_name(server_name))
        return self.of(chain, has_server_name=server_name is not None)

    def of(self, chain: CertificateChain | None, *, has_server_name: bool) -> "CoveredHosts | None":
        """Return what a connection is good for that was shown a certificate, likewise.

        Arguments:
            chain: The certificate.
            has_server_name: Whether the client asked for a name.
        """
        if chain is None or not self._is_checked:
            return None
        key = (chain, has_server_name)
        covered = self._covered.get(key)
        if covered is None:
            covered = self._covered[key] = CoveredHosts(
                chain, self._tls, self._others, takes_addresses=not has_server_name
            )
        return covered


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
        chain: The certificate.
        own: What its listener presents.
        others: What listeners present that ask something else of clients.
        takes_addresses: Whether addresses need not be covered.
    """

    def __init__(
        self,
        chain: CertificateChain,
        own: ListenerTls,
        others: Sequence[ListenerTls],
        *,
        takes_addresses: bool,
    ) -> None:
        self._chain = chain
        self._takes_addresses = takes_addresses
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
            known = self._known[host] = self._decide(*_name(host))
        return known

    def _decide(self, name: str, is_address: bool) -> bool:
        is_asked = self._chain.names and not (is_address and self._takes_addresses)
        if is_asked and not self._chain.covers(name):
            return False
        own = _closeness(self._own, name)
        return all(_closeness(other, name) <= own for other in self._others)


def _name(host: bytes) -> tuple[str, bool]:
    """Return a host as certificates have it, and whether it is an address."""
    name = host.decode("ascii", "replace").strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name)), True
    except ValueError:
        return name, False


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
