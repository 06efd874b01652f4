"""A listener's certificates, loaded: for QUIC as a selector, for TCP as TLS contexts."""

import hashlib
from dataclasses import dataclass

import msgspec

from spooky.config.listener_tls import ClientAuth, ListenerTLS
from spooky.config.schema import Listener
from spooky.generation.materials import MaterialError, Materials, listener_paths
from spooky.generation.tcp_contexts import TcpContexts
from spooky.protocol.quic.certificates import (
    CertificateChain,
    CertificateSelector,
    ClientVerifier,
    ServerIdentity,
)


@dataclass(frozen=True, slots=True, eq=False)
class ListenerTls:
    """What a listener presents and demands in handshakes.

    Attributes:
        selector: Chooses by server name.
        tcp: Contexts for TCP connections.
        names: Those of all certificates together, and those by which they are chosen.
    """

    selector: CertificateSelector
    tcp: TcpContexts
    names: frozenset[str]


def load_listener_tls(listener: Listener, materials: Materials) -> ListenerTls:
    """Load a listener's certificates.

    Raises:
        MaterialError: One cannot be used; says which and why.
    """
    selector = _selector(listener.tls, materials)
    names = selector.names.union(*(chain.names for chain in selector.chains))
    return ListenerTls(selector, TcpContexts(selector), names)


def listener_tls_identity(listener: Listener, materials: Materials) -> bytes:
    """Return what makes two listeners present and demand the same: settings and files."""
    digest = hashlib.sha256(msgspec.msgpack.encode(listener.tls))
    for path in listener_paths(listener):
        digest.update(hashlib.sha256(materials[path]).digest())
    return digest.digest()


def _selector(tls: ListenerTLS, materials: Materials) -> CertificateSelector:
    verifiers = {auth: _client_verifier(auth, materials) for auth in tls.every_client_auth()}
    by_name: dict[str, ServerIdentity] = {}
    for certificate in tls.certificates:
        chain = _chain(certificate.cert, certificate.key, materials)
        name = certificate.server_name
        if not chain.covers(name):
            covered = ", ".join(sorted(chain.names)) or "nothing"
            raise MaterialError(
                f"the certificate for {name} does not cover it; it covers {covered}"
            )
        by_name[name] = ServerIdentity(chain, verifiers[tls.client_auth_of(certificate)])
    # Where it is that of a name, its clients did not ask for this name: the listener's word holds.
    files = tls.default_certificate()
    default = (
        ServerIdentity(_chain(*files, materials), verifiers[tls.client_auth]) if files else None
    )
    return CertificateSelector(by_name, default, strict=tls.strict_sni)


def _client_verifier(auth: ClientAuth, materials: Materials) -> ClientVerifier | None:
    if not auth.enabled:
        return None
    path = auth.ca_file or ""
    try:
        return ClientVerifier.from_pem(materials[path], required=auth.require_client_cert)
    except ValueError as error:
        raise MaterialError(f"{path}: {error}") from error


def _chain(certificate: str, key: str, materials: Materials) -> CertificateChain:
    try:
        return CertificateChain(materials[certificate], materials[key])
    except ValueError as error:
        raise MaterialError(f"{certificate} with {key}: {error}") from error
