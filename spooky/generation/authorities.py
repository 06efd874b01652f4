"""Which authorities may be asked for over a connection: those that its handshake was good for."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spooky._core import authority
from spooky.config.schema import Listener
from spooky.generation.certificates import ListenerTls
from spooky.protocol.quic.certificates import ServerIdentity, normalize_server_name, wildcard_of

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
        policy: What the client was asked for, see ``ServerIdentity``.
        has_server_name: Whether the client asked for a name.
        chosen_by: The name or wildcard by which its identity was found; ``None`` for the default.
        choices: All of the listener's at that time.
    """

    names: frozenset[str]
    policy: bytes
    has_server_name: bool
    chosen_by: str | None
    choices: frozenset[str]

    def is_for(self, name: str) -> bool:
        """Return whether a client that asked for a name would have met the same identity."""
        return _match(self.choices, name) == self.chosen_by


class Authorities(authority.Authorities):
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
        super().__init__(listener.tls.strict_authority)
        self._others = [each[1] for each in all_listeners if each is not own]
        self._handshakes: dict[tuple[ServerIdentity, bool], Handshake] = {}

    def handshake_by_name(self, server_name: str | None) -> Handshake | None:
        """Return what the handshake of a client showed that asked for a name.

        Arguments:
            server_name: As the client sent it.

        Returns:
            ``None`` if no certificate was shown.
        """
        identity = self._tls.selector.select(normalize_server_name(server_name))
        return self.handshake(identity, has_server_name=server_name is not None)

    def handshake(
        self, identity: ServerIdentity | None, *, has_server_name: bool
    ) -> Handshake | None:
        """Return what a handshake showed, likewise.

        Arguments:
            identity: What the client met.
            has_server_name: Whether the client asked for a name.
        """
        if identity is None:
            return None
        key = (identity, has_server_name)
        shown = self._handshakes.get(key)
        if shown is None:
            selector = self._tls.selector
            shown = self._handshakes[key] = Handshake(
                identity.chain.names,
                identity.policy,
                has_server_name,
                selector.name_of(identity),
                selector.names,
            )
        return shown

    def _cover(self, handshake: Handshake) -> "CoveredHosts":
        return CoveredHosts(handshake, self._tls, self._others)


class CoveredHosts(authority.CoveredHosts):
    """The hosts that connections with one handshake are good for.

    Those whose certificate covers them (RFC 9110 section 7.4), unless other client certificates are
    asked for there: then the client has not shown what that host asks for. A host asks for what its
    own listener would ask a client for that names it. Another listener has a say if it serves the
    host more closely: so a wildcard certificate opens no host that is served under its own name
    behind client certificates.

    A connection stays good for what it was made for when the listener asks for something else from
    some time on, like all that is said of new connections; not for a name that was set apart since.

    What the certificate covers is not asked where it names no host at all, as that would refuse
    every request, nor for an address that was connected to without a server name: TLS has no way
    to say which address is meant (RFC 6066 section 3), so the client did not choose a host.

    Arguments:
        handshake: What was shown.
        own: What its listener presents now.
        others: What each other listener does.
    """

    def __init__(
        self, handshake: Handshake, own: ListenerTls, others: Sequence[ListenerTls]
    ) -> None:
        super().__init__()
        self._handshake = handshake
        self._own = own
        self._others = others

    def includes(self, host: bytes) -> bool:
        """Return whether a host may be asked for.

        Arguments:
            host: In lowercase, without a port.
        """
        if len(host) > HOST_MAX:
            return False
        known = self.known.get(host)
        if known is None:
            if len(self.known) >= REMEMBERED_MAX:
                self.known.clear()
            known = self.known[host] = self._decide(*_name(host))
        return known

    def _decide(self, name: str, is_address: bool) -> bool:
        shown = self._handshake
        is_asked = shown.names and not (is_address and not shown.has_server_name)
        if is_asked and _closeness(shown.names, name) == NOTHING:
            return False
        if self._own_asks_alike(name):
            served = self._own.names
        elif shown.is_for(name) and not self._is_set_apart(name):
            served = shown.names
        else:
            return False
        own = _closeness(served, name)
        return all(
            _closeness(other.names, name) <= own or self._asks_alike(other, name)
            for other in self._others
        )

    def _own_asks_alike(self, name: str) -> bool:
        """Return whether our listener asks clients of a name for what was asked for here.

        Names that it refuses (``strict_sni``) are of no identity: then all have to ask alike.
        """
        selector = self._own.selector
        identity = selector.select(name)
        asked = selector.identities if identity is None else (identity,)
        return all(each.policy == self._handshake.policy for each in asked)

    def _asks_alike(self, tls: ListenerTls, name: str) -> bool:
        """Return whether another listener asks for what was asked for here, or does not serve."""
        identity = tls.selector.select(name)
        return identity is None or identity.policy == self._handshake.policy

    def _is_set_apart(self, name: str) -> bool:
        """Return whether a name has more of an identity of its own than it had."""
        then, now = self._handshake.choices, self._own.selector.names
        return _closeness(now, name) > _closeness(then, name)


def _name(host: bytes) -> tuple[str, bool]:
    """Return a host as certificates have it, and whether it is an address."""
    name = host.decode("ascii", "replace").strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(name)), True
    except ValueError:
        return name, False


def _match(names: frozenset[str], name: str) -> str | None:
    """Return which of names and wildcards a host's is."""
    if name in names:
        return name
    wildcard = wildcard_of(name)
    return wildcard if wildcard in names else None


def _closeness(names: frozenset[str], name: str) -> int:
    """Return how closely the best of names and wildcards is a host's."""
    match = _match(names, name)
    return NOTHING if match is None else EXACT if match == name else WILDCARD
