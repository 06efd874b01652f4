"""One try of an exchange at one backend; the twin is the source, and says the rest."""

from spooky._core.pure.attempt import Attempt, Owner

__all__ = ["Attempt", "Owner"]
