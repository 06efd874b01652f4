"""What makes backends share a pool of connections, and a pool outlive a generation."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spooky.config.schema import Configuration, UpstreamTLS
from spooky.generation.materials import Materials
from spooky.upstream.dial import UpstreamTls
from spooky.upstream.origin import EMBEDDED_SCHEME, Origin


@dataclass(frozen=True, slots=True)
class PoolIdentity:
    """What makes two backends share connections.

    Attributes:
        origin: Where to.
        protocol: ``auto``, ``http1``, ``http2`` or ``http3``.
        tls: Fingerprint of the TLS identity, or ``None`` without TLS.
    """

    origin: Origin
    protocol: str
    tls: str | None

    @classmethod
    def of(cls, origin: Origin, protocol: str, tls: UpstreamTls) -> "PoolIdentity":
        """Return the identity of an origin's pool; TLS counts only where it is spoken."""
        if origin.scheme == EMBEDDED_SCHEME:
            return cls(origin, "auto", None)
        return cls(origin, protocol, tls.fingerprint if origin.scheme == "https" else None)


def pool_identities(
    configuration: Configuration, materials: Materials
) -> Mapping[tuple[str, str], PoolIdentity]:
    """Return the identity of each backend's pool, by the names of its upstream and its own.

    A disabled backend has none.
    """
    identities: dict[tuple[str, str], PoolIdentity] = {}
    made = upstream_tls_maker(materials)
    for name, upstream in configuration.upstream.items():
        tls = made(configuration.tls_of(name))
        for backend in upstream.listed_backends:
            origin = Origin.parse(backend.address)
            identities[name, backend.id] = PoolIdentity.of(origin, upstream.protocol, tls)
    return identities


def upstream_tls_maker(materials: Materials) -> Callable[[UpstreamTLS], UpstreamTls]:
    """Return :func:`upstream_tls` of some files.

    It makes one of equal settings, as all backends ask and bundles of authorities are large.
    """
    return functools.cache(lambda tls: upstream_tls(tls, materials))


def upstream_tls(tls: UpstreamTLS, materials: Materials) -> UpstreamTls:
    """Return how TLS to an upstream's backends is verified and authenticated."""
    own = [materials[path] for path in (tls.ca_file, tls.ca_dir) if path is not None]
    return UpstreamTls(
        verify_certificates=tls.verify_certificates,
        strict_sni=tls.strict_sni,
        ca_pem=b"\n".join([materials.authorities, *own]),
        client_certificate_pem=(
            materials[tls.client_certificate] if tls.client_certificate is not None else b""
        ),
        client_key_pem=materials[tls.client_key] if tls.client_key is not None else b"",
    )
