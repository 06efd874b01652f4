"""No route leads clients to what is for operators: backends that are this proxy's own listeners."""

import socket

from spooky.config.hosts import EMBEDDED_SCHEME, parse_backend_address
from spooky.config.networks import Address, parse_address
from spooky.config.problems import InvalidValueError, Path, format_path
from spooky.config.report import Report
from spooky.config.schema import Configuration


def check_control_reach(configuration: Configuration, report: Report) -> None:
    """Report backends that are the control API or the metrics of this very proxy."""
    places = _places(configuration)
    for name, upstream in configuration.upstream.items():
        for number, backend in enumerate(upstream.backends):
            for path, address, port in places:
                if _is_at(backend.address, address, port):
                    _report(("upstream", name, "backends", number, "address"), path, report)


def is_for_operators(configuration: Configuration, address: str, port: int) -> bool:
    """Return whether whoever connects to an address reaches the control API or the metrics."""
    asked = parse_address(address)
    return any(
        port == listened_port and _reaches(asked, parse_address(listened))
        for _, listened, listened_port in _places(configuration)
    )


def _places(configuration: Configuration) -> list[tuple[Path, str, int]]:
    """Return where this proxy listens for operators."""
    observability = configuration.observability
    return [
        (("observability", name), address, port)
        for name, enabled, address, port in (
            (
                "control_api",
                observability.control_api.enabled,
                observability.control_api.address,
                observability.control_api.port,
            ),
            (
                "metrics",
                observability.metrics.enabled,
                observability.metrics.address,
                observability.metrics.port,
            ),
        )
        if enabled
    ]


def _report(backend: Path, place: Path, report: Report) -> None:
    report.error(
        backend,
        f"this is {format_path(place)} of this proxy: clients would reach it",
        "name another backend; operators reach it at its own address",
        related=((*place, "port"),),
    )


def _is_at(backend: str, address: str, port: int) -> bool:
    """Return whether a backend's address, as far as it is no name, is a place of ours."""
    try:
        parsed = parse_backend_address(backend)
        listened = parse_address(address)
    except (InvalidValueError, ValueError):
        return False
    if parsed.scheme == EMBEDDED_SCHEME or parsed.port != port:
        return False
    host = "127.0.0.1" if parsed.host.lower() == "localhost" else parsed.host
    try:
        asked = parse_address(host)
    except ValueError:
        return False
    return _reaches(asked, listened)


def _reaches(asked: Address, listened: Address) -> bool:
    """Return whether who connects to one address reaches what listens at another."""
    # To connect to no address in particular is to connect to this machine.
    is_local = asked.is_loopback or asked.is_unspecified
    if listened.is_unspecified:
        return is_local or _is_own(asked)
    return asked == listened or (is_local and listened.is_loopback)


def _is_own(address: Address) -> bool:
    """Return whether this machine has an address: only to such a one a socket can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        # Nothing is sent, and no port is taken that anybody asked for.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
