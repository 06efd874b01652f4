"""A listener's certificates, loaded: for QUIC as a selector, for TCP as TLS contexts."""

import datetime
import hashlib
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography import x509

from spooky.config.schema import Listener, ListenerTLS
from spooky.generation.materials import MaterialError, Materials, listener_paths
from spooky.protocol.quic.certificates import (
    CertificateChain,
    CertificateSelector,
    ClientVerifier,
    normalize_server_name,
)
from spooky.runtime.memory_file import memory_file

ALPN_PROTOCOLS: Final = ["h2", "http/1.1"]
"""What is spoken on TCP, in our order of preference."""


class ServerTls(ssl.SSLObject):
    """A connection of a listener.

    Attributes:
        has_server_name: Whether the client asked for a name, which :mod:`ssl` does not keep.
    """

    has_server_name = False


@dataclass(frozen=True, slots=True, eq=False)
class ListenerTls:
    """What a listener presents and demands in handshakes.

    Attributes:
        selector: Chooses a certificate by server name.
        client_verifier: Verifies client certificates; ``None`` if none are asked for.
        tcp_context: The context for TCP connections; it switches to the selected certificate.
        chain_of: The certificate that each context presents.
        names: Those of all certificates together.
    """

    selector: CertificateSelector
    client_verifier: ClientVerifier | None
    tcp_context: ssl.SSLContext
    chain_of: Mapping[ssl.SSLContext, CertificateChain]
    names: frozenset[str]


def load_listener_tls(listener: Listener, materials: Materials) -> ListenerTls:
    """Load a listener's certificates.

    Raises:
        MaterialError: One cannot be used; says which and why.
    """
    tls = listener.tls
    selector = _selector(tls, materials)
    verifier = None
    authorities = b""
    if tls.client_auth.enabled:
        path = tls.client_auth.ca_file or ""
        authorities = materials[path]
        try:
            verifier = ClientVerifier.from_pem(
                authorities, required=tls.client_auth.require_client_cert
            )
        except ValueError as error:
            raise MaterialError(f"{path}: {error}") from error
    contexts = _tcp_contexts(selector, verifier, authorities)
    chain_of = {context: chain for chain, context in contexts.items()}
    names = frozenset[str]().union(*(chain.names for chain in contexts))
    return ListenerTls(selector, verifier, contexts[selector.chains[0]], chain_of, names)


def listener_tls_identity(listener: Listener, materials: Materials) -> bytes:
    """Return what makes two listeners present and demand the same: settings and files."""
    digest = hashlib.sha256(msgspec.msgpack.encode(listener.tls))
    for path in listener_paths(listener):
        digest.update(hashlib.sha256(materials[path]).digest())
    return digest.digest()


def _selector(tls: ListenerTLS, materials: Materials) -> CertificateSelector:
    by_name = {
        certificate.server_name: _chain(certificate.cert, certificate.key, materials)
        for certificate in tls.certificates
    }
    default = _chain(tls.cert, tls.key, materials) if tls.cert else None
    if default is None:
        default = next(iter(by_name.values()), None)
    for name, chain in by_name.items():
        if not chain.covers(name):
            covered = ", ".join(sorted(chain.names)) or "nothing"
            raise MaterialError(
                f"the certificate for {name} does not cover it; it covers {covered}"
            )
    return CertificateSelector(by_name, default, strict=tls.strict_sni)


def _chain(certificate: str, key: str, materials: Materials) -> CertificateChain:
    try:
        return CertificateChain(materials[certificate], materials[key])
    except ValueError as error:
        raise MaterialError(f"{certificate} with {key}: {error}") from error


def _tcp_contexts(
    selector: CertificateSelector, verifier: ClientVerifier | None, authorities: bytes
) -> dict[CertificateChain, ssl.SSLContext]:
    """Return a context for each certificate; SNI switches from the first to one of the others."""
    contexts = {chain: _chain_context(chain, verifier, authorities) for chain in selector.chains}
    first, *others = selector.chains
    # Were the first among them, it would hold itself, and all keys and certificates with it would
    # wait for the collector.
    context_of = {chain: contexts[chain] for chain in others}

    def on_server_name(
        connection: ssl.SSLObject, server_name: str | None, first_context: ssl.SSLContext
    ) -> int | None:
        if isinstance(connection, ServerTls):
            connection.has_server_name = server_name is not None
        chain = selector.select(normalize_server_name(server_name))
        if chain is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context_of.get(chain, first_context)
        return None

    contexts[first].sslobject_class = ServerTls
    contexts[first].sni_callback = on_server_name
    return contexts


def _chain_context(
    chain: CertificateChain, verifier: ClientVerifier | None, authorities: bytes
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9113 section 9.2: no compression, no renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    with memory_file(chain.certificate_pem + b"\n" + chain.key_pem) as path:
        context.load_cert_chain(path)
    if verifier is not None:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED if verifier.required else ssl.CERT_OPTIONAL
        # OpenSSL does not verify the client of a resumed session again. Without tickets nothing is
        # resumed in TLS 1.3; sessions of TLS 1.2 cannot be switched off. Those that OpenSSL keeps
        # itself hold the client's whole chain, for `is_client_still_accepted`; tickets would not.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def is_client_still_accepted(
    tls: ssl.SSLObject, verifier: ClientVerifier | None, at: datetime.datetime
) -> bool:
    """Return whether the client of a resumed TLS 1.2 session would be accepted now.

    Sessions belong to their context, so the authorities are those that the client was verified
    against; OpenSSL keeps a session for two hours (RFC 5246 section F.1.4 asks for such a limit),
    and in that time a certificate of the chain may have ended.

    Arguments:
        tls: A connection after its handshake, resumed or not.
        verifier: The listener's.
        at: The time now.
    """
    if verifier is None or not tls.session_reused:
        return True
    chain = _presented_chain(tls)
    return not verifier.required if not chain else verifier.accepts_still(chain, at)


def _presented_chain(tls: ssl.SSLObject) -> list[x509.Certificate]:
    """Return the certificates that a client sent, its own first; none if it sent none."""
    if sys.version_info >= (3, 13):
        return [x509.load_der_x509_certificate(each) for each in tls.get_unverified_chain()]
    # Public since Python 3.13 only; until then the object below has it.
    below: Any = tls
    chain = below._sslobj.get_unverified_chain() or []
    return [x509.load_pem_x509_certificate(each.public_bytes().encode()) for each in chain]
