"""What the access log says of one exchange; the twin is the source, and says the rest."""

from spooky._core.pure.access_record import AccessRecord

__all__ = ["AccessRecord"]
