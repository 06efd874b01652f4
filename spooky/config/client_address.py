"""The ``client_address`` section of a listener: whose word is taken for where a client is."""

from typing import Annotated, Literal, TypeAlias

from spooky.config.fields import Section, described
from spooky.config.networks import parse_network
from spooky.config.problems import InvalidValueError, Path
from spooky.config.report import Report

AddressHeader: TypeAlias = Literal["none", "x-forwarded-for", "forwarded"]
ProxyProtocol: TypeAlias = Literal["off", "accept", "require"]


class ClientAddress(Section, frozen=True):
    """Whose word is taken for the address of a client: by default nobody's."""

    trusted_cidrs: Annotated[
        tuple[str, ...],
        described(
            "Networks of the proxies and balancers before Spooky that are believed; of all others "
            "the address of the connection counts.",
            hazard="Whoever can connect from these networks can pose as any client. Addresses of "
            "UDP datagrams are only as true as the network filters them.",
            unordered=True,
        ),
    ] = ()
    header: Annotated[
        AddressHeader,
        described(
            "The field in which they say it, `x-forwarded-for` or `forwarded` (RFC 7239). Read "
            "from the right: the first address that is not trusted is the client's. The access "
            "log, the key `client_ip` and what backends are told go by it; limits of connections "
            "go by the connection.",
            hazard="The proxy before must append to this field or replace it, not pass on what "
            "clients wrote.",
        ),
    ] = "none"
    proxy_protocol: Annotated[
        ProxyProtocol,
        described(
            "The PROXY header before a connection: versions 1 and 2 on TCP, version 2 before "
            "the first or before every datagram on UDP. `accept`: trusted networks must send it, "
            "others connect as they are. `require`: connections from others are refused. "
            "Everything goes by the address in it, limits of connections too."
        ),
    ] = "off"


def check_client_address(path: Path, settings: ClientAddress, report: Report) -> None:
    """Report what is wrong with the section at a path."""
    for place, cidr in enumerate(settings.trusted_cidrs):
        try:
            parse_network(cidr)
        except InvalidValueError as error:
            report.error((*path, "trusted_cidrs", place), error.message, error.remedy)
    asked = [
        key
        for key, value, default in (
            ("header", settings.header, "none"),
            ("proxy_protocol", settings.proxy_protocol, "off"),
        )
        if value != default
    ]
    if asked and not settings.trusted_cidrs:
        report.error(
            (*path, asked[0]),
            "nobody is trusted to say where clients are",
            "name the networks of the proxies before this listener in trusted_cidrs",
            related=((*path, "trusted_cidrs"),),
        )
    if settings.trusted_cidrs and not asked:
        report.error(
            (*path, "trusted_cidrs"),
            "those who are trusted are not asked where clients are",
            "set header or proxy_protocol, or remove this",
            related=((*path, "header"), (*path, "proxy_protocol")),
        )
