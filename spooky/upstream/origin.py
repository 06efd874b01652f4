"""Where a backend is: scheme, host and port."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

EMBEDDED_SCHEME = "app"
DEFAULT_PORTS = {"http": 80, "https": 443}

ORIGINS_KEPT: Final = 4096
"""Addresses whose origins are remembered: a change asks for all of them, and most are as before."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A backend's scheme, host and port.

    Attributes:
        scheme: ``http``, ``https``, or ``app`` for an embedded application.
        host: Name or address, IPv6 without brackets; the application's name for ``app``.
        port: Port; 0 for ``app``.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    @lru_cache(maxsize=ORIGINS_KEPT)
    def parse(cls, address: str) -> "Origin":
        """Return the origin that a backend address names.

        Arguments:
            address: ``http://host[:port]``, ``https://host[:port]``, ``host[:port]`` (which means
                https), or ``app:NAME``.

        Raises:
            ValueError: The address is none of these; says why.
        """
        if address.startswith(f"{EMBEDDED_SCHEME}:"):
            return cls(EMBEDDED_SCHEME, address.removeprefix(f"{EMBEDDED_SCHEME}:"), 0)
        parts = urlsplit(address if "://" in address else f"https://{address}")
        if parts.scheme not in DEFAULT_PORTS:
            raise ValueError(f"{parts.scheme!r} is not a scheme for backends; use http or https")
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ValueError("a backend address has only a scheme, a host and a port")
        if not parts.hostname:
            raise ValueError("a backend address needs a host")
        return cls(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme])

    @property
    def authority(self) -> bytes:
        """The authority for this origin, with its port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme == EMBEDDED_SCHEME:
            return host.encode()
        return f"{host}:{self.port}".encode()

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}"
