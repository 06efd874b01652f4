"""TLS contexts for the TCP connections of a listener: one for each identity that it has."""

import datetime
import ssl
import sys
import weakref
from typing import Any, Final

from cryptography import x509

from spooky.protocol.quic.certificates import (
    CertificateSelector,
    ClientVerifier,
    ServerIdentity,
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


class TcpContexts:
    """The contexts of a listener.

    What a client is asked for, and which sessions it may resume, are its first context's: OpenSSL
    leaves both as they are when it switches to another one for the server name. So a connection
    begins with the context of the name in its hello. The library reads that name too, and what it
    finds is held against the context: were it something else, it could only be a name whose
    clients are asked the same.

    Arguments:
        selector: Chooses an identity by server name.
    """

    __slots__ = ("__weakref__", "_contexts", "_identities", "_selector")

    def __init__(self, selector: CertificateSelector) -> None:
        self._selector = selector
        self._contexts = {identity: self._context(identity) for identity in selector.identities}
        self._identities = {context: identity for identity, context in self._contexts.items()}

    @property
    def default(self) -> ssl.SSLContext:
        """The context of a connection whose hello says nothing that could be read."""
        return next(iter(self._identities))

    def select(self, server_name: str | None) -> ssl.SSLContext | None:
        """Return the context of a connection, or ``None`` if it is to be refused.

        Arguments:
            server_name: As the client sent it.
        """
        identity = self._selector.select(normalize_server_name(server_name))
        return None if identity is None else self._contexts[identity]

    def identity(self, context: ssl.SSLContext) -> ServerIdentity | None:
        """Return whose a context is; ``None`` if it is none of these."""
        return self._identities.get(context)

    def _context(self, identity: ServerIdentity) -> ssl.SSLContext:
        context = _make_context(identity)
        context.sslobject_class = ServerTls
        # Did they hold each other, all keys and certificates would wait for the collector.
        every = weakref.ref(self)

        def on_server_name(
            connection: ssl.SSLObject, server_name: str | None, first: ssl.SSLContext
        ) -> int | None:
            contexts = every()
            if contexts is None:
                return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
            return contexts._switch(connection, server_name, first)

        context.sni_callback = on_server_name
        return context

    def _switch(
        self, connection: ssl.SSLObject, server_name: str | None, first: ssl.SSLContext
    ) -> int | None:
        """Have a connection present the certificate for a name; return an alert if it must not."""
        if isinstance(connection, ServerTls):
            connection.has_server_name = server_name is not None
        identity = self._selector.select(normalize_server_name(server_name))
        if identity is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        if identity.policy != self._identities[first].policy:
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        connection.context = self._contexts[identity]
        return None


def _make_context(identity: ServerIdentity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 9113 section 9.2: no compression, no renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    chain, verifier = identity.chain, identity.client_verifier
    with memory_file(chain.certificate_pem + b"\n" + chain.key_pem) as path:
        context.load_cert_chain(path)
    if verifier is not None:
        context.load_verify_locations(cadata=b"".join(verifier.authorities))
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
