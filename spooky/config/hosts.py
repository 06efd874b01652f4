"""Host names, listener addresses and backend addresses as operators write them."""

import ipaddress
import re
from typing import Final

from msgspec import Struct

from spooky.config.problems import InvalidValueError, quoted

EMBEDDED_SCHEME: Final = "app"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

HOST_LENGTH_MAX: Final = 253  # RFC 1035 section 2.3.4, in text form
LABEL_LENGTH_MAX: Final = 63

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_NUMERIC: Final = re.compile(r"[0-9.]+|0x[0-9a-f]+")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_APP_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


class BackendAddress(Struct, frozen=True):
    """Where a backend is.

    Attributes:
        scheme: ``http``, ``https`` or ``app``.
        host: Lowercase name or address, IPv6 without brackets; the name of an ``app``.
        port: Port; 0 for an ``app``.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.scheme == EMBEDDED_SCHEME:
            return f"{self.scheme}:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_backend_address(text: str) -> BackendAddress:
    """Return what a backend address means.

    Arguments:
        text: ``http://HOST[:PORT]``, ``https://HOST[:PORT]``, ``HOST[:PORT]`` (https) or
            ``app:NAME``.

    Raises:
        InvalidValueError: It is none of these.
    """
    if text.startswith(f"{EMBEDDED_SCHEME}:"):
        name = text.removeprefix(f"{EMBEDDED_SCHEME}:")
        if not _APP_NAME.fullmatch(name):
            raise InvalidValueError(f"{quoted(name)} is not a name of an application")
        return BackendAddress(EMBEDDED_SCHEME, name, 0)
    if text.startswith("unix:"):
        raise InvalidValueError(
            "backends on unix sockets are not supported", "give the backend a TCP port"
        )
    with_scheme = _SCHEME.fullmatch(text)
    scheme, rest = with_scheme.groups() if with_scheme else ("https", text)
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidValueError(
            f"{quoted(scheme)} is not a scheme for backends", "use http:// or https://"
        )
    if "@" in rest:
        raise InvalidValueError("an address has no user name or password", "remove them")
    cut = re.search(r"[/?#]", rest)
    if cut is not None:
        prefix = f"{scheme}://" if with_scheme else ""
        raise InvalidValueError(
            "an address has only a scheme, a host and a port",
            f"write {prefix}{rest[: cut.start()]}",
        )
    host, port = split_port(rest)
    return BackendAddress(scheme, parse_host(host), DEFAULT_PORTS[scheme] if port is None else port)


def split_port(text: str) -> tuple[str, int | None]:
    """Return host and port of ``HOST[:PORT]``; the host is not checked, IPv6 keeps its brackets.

    Raises:
        InvalidValueError: The port is not a number from 1 to 65535, or IPv6 has no brackets.
    """
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidValueError("a bracket is not closed, or something follows it")
        host, port = f"{host}]", rest[1:] if rest else None
    elif text.count(":") > 1:
        raise InvalidValueError(
            "there is more than one colon", "put IPv6 addresses in brackets: [::1]:8080"
        )
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
    if port is None:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise InvalidValueError(f"the port {quoted(port)} is not a number from 1 to 65535")
    return host, int(port)


def parse_host(text: str) -> str:
    """Return a host in its canonical form: lowercase, no trailing dot, IPv6 without brackets.

    Raises:
        InvalidValueError: It is neither an address nor a name.
    """
    if not text:
        raise InvalidValueError("there is no host")
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise InvalidValueError(f"{quoted(text)} is not an IPv6 address") from None
        if address.scope_id is not None:
            raise InvalidValueError("an address in a URL has no zone (RFC 9844)")
        return str(address)
    if not text.isascii():
        raise InvalidValueError("a host name is written in ASCII", _in_ascii(text))
    name = text.lower().removesuffix(".")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        # Resolvers read such names as IPv4 addresses in historic forms (RFC 3986 section 7.4).
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidValueError(f"{quoted(text)} is not an IPv4 address") from None
    if len(name) > HOST_LENGTH_MAX:
        raise InvalidValueError(f"the host name is longer than {HOST_LENGTH_MAX} characters")
    for label in name.split("."):
        if len(label) > LABEL_LENGTH_MAX:
            raise InvalidValueError(f"{quoted(label)} is longer than {LABEL_LENGTH_MAX} characters")
        if not _LABEL.fullmatch(label):
            raise InvalidValueError(
                f"{quoted(text)} is not a host name",
                "names are letters, digits, hyphens and dots",
            )
    return name


def parse_host_pattern(text: str) -> str:
    """Return a host or ``*.`` and a name, in canonical form; a port is dropped.

    Raises:
        InvalidValueError: It is neither, or a wildcard stands elsewhere than first.
    """
    host, _ = split_port(text)
    if not host.startswith("*."):
        if "*" in host:
            raise InvalidValueError(
                f"{quoted(text)} has a wildcard that is not its first label",
                "write *.example.com",
            )
        return parse_host(host)
    name = parse_host(host.removeprefix("*."))
    if ":" in name or name.replace(".", "").isdigit():
        raise InvalidValueError("an address has no wildcard")
    return f"*.{name}"


def parse_server_name(text: str) -> str:
    """Return a server name (SNI) or ``*.`` and a domain, in canonical form.

    Raises:
        InvalidValueError: Clients never send such a name (RFC 6066 section 3).
    """
    if text.startswith("[") or ":" in text:
        raise InvalidValueError(f"{quoted(text)} is not a host name", "write a name without port")
    name = parse_host_pattern(text)
    if name.replace(".", "").isdigit():
        raise InvalidValueError(
            "clients that connect to an address send no server name",
            "use a host name, or make this the default certificate",
        )
    return name


def parse_listener_address(text: str) -> str:
    """Return the IP address to listen on, in canonical form.

    Raises:
        InvalidValueError: It is not an IP address.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    remedy = "write an address of this machine, 0.0.0.0 for all of IPv4, or :: for all"
    bare = text.strip("[]")
    if text in ("", "*"):
        remedy = "write 0.0.0.0 for all of IPv4, or :: for all"
    elif text == "localhost":
        remedy = "write 127.0.0.1"
    elif bare != text:
        remedy = f"write {bare}"
    elif re.search(r":[0-9]+$", text):
        remedy = "the port has a key of its own: port"
    raise InvalidValueError(f"{quoted(text)} is not an IP address", remedy)


def _in_ascii(text: str) -> str:
    try:
        return f"write {text.encode('idna').decode()}"
    except UnicodeError:
        return ""
