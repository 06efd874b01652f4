"""What is in force for a request; the twin is the source, and says the rest."""

from spooky._core.pure.terms import BodyLimits, Client, InForce, Rates, RequestPolicy, Timeouts

__all__ = ["BodyLimits", "Client", "InForce", "Rates", "RequestPolicy", "Timeouts"]
