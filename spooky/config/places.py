"""Where this proxy listens: no two places in each other's way."""

from typing import NamedTuple

from spooky.config.networks import Address, overlap, parse_address
from spooky.config.problems import Path, format_path
from spooky.config.report import Report
from spooky.config.schema import Configuration, Listener


class _Place(NamedTuple):
    path: Path
    written: str
    address: Address
    zone: str
    port: int


def check_places(configuration: Configuration, report: Report) -> None:
    """Report listeners, metrics and a control API of which only one could be bound.

    Arguments:
        configuration: As read; values that could not be read have stand-ins.
        report: Where problems go.
    """
    places: list[_Place] = []
    for place in _places(configuration):
        other = next((one for one in places if _overlap(place, one)), None)
        places.append(place)
        if other is None:
            continue
        where = f"the place of {format_path(other.path)} already"
        if not _same(place, other):
            where = f"in the way of {format_path(other.path)}, which has {other.written}"
        report.error(
            (*place.path, "port"),
            f"{place.written} port {place.port} is {where}",
            "give each listener an address and port of its own",
            related=(
                (*place.path, "address"), (*other.path, "address"), (*other.path, "port")
            ),
        )  # fmt: skip


def _places(configuration: Configuration) -> list[_Place]:
    """Return the places with a port of their own."""
    at: list[tuple[Path, Listener]] = [
        (("listeners", i), each) for i, each in enumerate(configuration.listeners)
    ]
    if not at and configuration.listen is not None:
        at = [(("listen",), configuration.listen)]
    written: list[tuple[Path, str, int]] = [(path, one.address, one.port) for path, one in at]
    observability = configuration.observability
    for name, one in (
        ("metrics", observability.metrics),
        ("control_api", observability.control_api),
    ):
        if one.enabled:
            written.append((("observability", name), one.address, one.port))
    places = []
    for path, text, port in written:
        try:
            places.append(_Place(path, text, parse_address(text), text.partition("%")[2], port))
        except ValueError:
            # Said where addresses are read.
            continue
    return [place for place in places if place.port]


def _overlap(one: _Place, other: _Place) -> bool:
    """Return whether both cannot be bound."""
    if one.port != other.port:
        return False
    return (
        _same(one, other) if one.address == other.address else overlap(one.address, other.address)
    )


def _same(one: _Place, other: _Place) -> bool:
    # A link-local address is another in each zone (RFC 4007 section 6).
    return (one.address, one.zone) == (other.address, other.zone)
