"""What an operator can ask for of a listener's TLS: certificates, and those of clients."""

from collections.abc import Iterator
from typing import Annotated

from msgspec.structs import force_setattr

from spooky.config.fields import Section, described


class ClientAuth(Section, frozen=True):
    """Client certificates (mutual TLS)."""

    enabled: Annotated[bool, described("Ask clients for a certificate.")] = False
    require_client_cert: Annotated[
        bool,
        described(
            "Refuse clients without one; otherwise a certificate is verified only if it is sent."
        ),
    ] = False
    ca_file: Annotated[
        str | None,
        described(
            "PEM file of the authorities that client certificates must chain to; required when "
            "enabled.",
            path=True,
        ),
    ] = None

    @property
    def demands(self) -> bool:
        """Whether clients without a certificate are refused."""
        return self.enabled and self.require_client_cert


class Certificate(Section, frozen=True):
    """One more certificate of a listener, chosen by server name (SNI)."""

    server_name: Annotated[
        str,
        described(
            "Host name that selects this certificate: exact, or `*.` and a domain for the names "
            "one label below it. The certificate must cover it.",
            identity=True,
        ),
    ]
    cert: Annotated[str, described("PEM file of the certificate and its chain.", path=True)]
    key: Annotated[str, described("PEM file of its private key.", path=True, secret=True)]
    client_auth: Annotated[
        ClientAuth | None,
        described(
            "Client certificates for this name; null for what the listener asks. A connection that "
            "was made for a name whose clients are asked something else is not good for this one: "
            "421 (`misdirected`), see `strict_authority`. Over TCP, clients whose hello takes more "
            "than one TLS record cannot reach a name that asks for what the listener does not.",
            hazard="Given but not enabled, this name is served to everybody, also where the "
            "listener requires client certificates.",
        ),
    ] = None

    def __post_init__(self) -> None:
        force_setattr(self, "server_name", self.server_name.lower().removesuffix("."))


class ListenerTLS(Section, frozen=True):
    """Certificates of a listener."""

    cert: Annotated[
        str,
        described(
            "PEM file of the default certificate and its chain: for clients whose server name "
            "matches none of `certificates`. Without it the first of those is the default.",
            path=True,
        ),
    ] = ""
    key: Annotated[
        str,
        described("PEM file of the default certificate's private key.", path=True, secret=True),
    ] = ""
    certificates: Annotated[
        tuple[Certificate, ...], described("More certificates, chosen by server name.")
    ] = ()
    client_auth: Annotated[ClientAuth, described("Client certificates (mutual TLS).")] = (
        ClientAuth()
    )
    strict_sni: Annotated[
        bool,
        described(
            "Refuse handshakes whose server name is absent or matches no certificate "
            "(`unrecognized_name`), instead of answering with the default certificate.",
            hazard="Clients that connect by address send no server name.",
        ),
    ] = False
    strict_authority: Annotated[
        bool,
        described(
            "Answer requests with 421 (`misdirected`) whose authority the certificate of their "
            "connection does not cover, or for which other client certificates are asked: by the "
            "same listener, or by another that serves it more closely (RFC 9110 section 7.4). "
            "Clients ask again over a connection of its own. A certificate that names no host, and "
            "an address that is asked for over a connection without server name, are only held "
            "against the client certificates.",
            hazard="Off: whoever has a connection for one host can ask for all others over it, "
            "also for those that require client certificates.",
        ),
    ] = True

    def default_certificate(self) -> tuple[str, str] | None:
        """Return the files of the certificate and key for names that have none of their own."""
        if self.cert:
            return self.cert, self.key
        return next(((each.cert, each.key) for each in self.certificates), None)

    def client_auth_of(self, certificate: Certificate) -> ClientAuth:
        """Return what clients are asked for that ask for the name of a certificate."""
        own = certificate.client_auth
        return self.client_auth if own is None else own

    def every_client_auth(self) -> Iterator[ClientAuth]:
        """Yield what clients are asked for, for each name and for all others, where it differs."""
        yield self.client_auth
        for certificate in self.certificates:
            if certificate.client_auth is not None:
                yield certificate.client_auth
