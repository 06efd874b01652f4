"""Where the key of hashing balancers comes from."""

from collections.abc import Callable
from dataclasses import dataclass

from spooky._core.validate import Request

Extract = Callable[[Request, bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class KeySource:
    """Takes the balancing key from a request."""

    _extract: Extract

    @classmethod
    def parse(cls, text: str) -> "KeySource":
        """Return the source that a configuration names."""
        if text in ("client_ip", "peer_ip"):
            return cls(lambda request, address, cid: address)
        return cls(lambda request, address, cid: request.authority)

    def extract(self, request: Request, client_address: bytes, connection_id: bytes) -> bytes:
        """Return the key."""
        return self._extract(request, client_address, connection_id)
