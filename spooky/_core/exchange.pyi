"""The ordinary course of a request; the twin is the source, and says the rest."""

from spooky._core.pure.exchange import (
    RESPONSE_FIELDS_MAX_BYTES,
    RESPONSE_FIELDS_MAX_COUNT,
    UNLIMITED,
    Exchange,
)

__all__ = ["RESPONSE_FIELDS_MAX_BYTES", "RESPONSE_FIELDS_MAX_COUNT", "UNLIMITED", "Exchange"]
