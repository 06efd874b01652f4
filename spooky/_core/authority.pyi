"""Whether a host may be asked for over a connection; the twin is the source, and says the rest."""

from spooky._core.pure.authority import Authorities, ConnectionAuthority, CoveredHosts

__all__ = ["Authorities", "ConnectionAuthority", "CoveredHosts"]
