"""Telling a worker of a configuration by what it does not have yet.

Of a thousand upstreams, most changes leave nearly all as they are. What a worker is not told again
it need not read, and knows for the same without a look inside.
"""

from collections.abc import Sequence
from itertools import islice, takewhile
from operator import eq

from msgspec import Struct, structs

from spooky.config.schema import Configuration


class ReductionError(ValueError):
    """A configuration does not fit to what it was reduced against."""


class Base(Struct, frozen=True, forbid_unknown_fields=True):
    """What a reduced configuration takes from the one that a worker has.

    Attributes:
        generation: Number of the generation whose configuration that is.
        upstreams: All upstreams' names; those that are not told are as they were.
        first_routes: So many of the first routes are as they were.
        last_routes: So many of the last routes are as they were.
    """

    generation: int
    upstreams: tuple[str, ...]
    first_routes: int
    last_routes: int


def reduced(
    configuration: Configuration, generation: int, known: Configuration
) -> tuple[Configuration, Base]:
    """Return what of a configuration has to be told, and what the rest is.

    Arguments:
        configuration: The whole.
        generation: Number of the generation that is known.
        known: Its configuration.
    """
    told = {
        name: upstream
        for name, upstream in configuration.upstream.items()
        if known.upstream.get(name) != upstream
    }
    if not told:
        # A configuration without upstreams is none.
        told = dict(islice(configuration.upstream.items(), 1))
    routes, before = configuration.routes, known.routes
    first = _same(routes, before)
    rest = min(len(routes), len(before)) - first
    last = _same(routes[::-1][:rest], before[::-1][:rest])
    return (
        structs.replace(configuration, upstream=told, routes=routes[first : len(routes) - last]),
        Base(generation, tuple(configuration.upstream), first, last),
    )


def restored(told: Configuration, base: Base, known: Configuration) -> Configuration:
    """Return the whole configuration again.

    Arguments:
        told: What :func:`reduced` gave.
        base: Likewise.
        known: What it was reduced against.

    Raises:
        ReductionError: It was reduced against another one.
    """
    kept = len(known.routes)
    names = [name for name in base.upstreams if name not in told.upstream]
    if not known.upstream.keys() >= set(names) or base.first_routes + base.last_routes > kept:
        raise ReductionError("the configuration does not fit to the one that is known")
    upstream = {name: told.upstream.get(name) or known.upstream[name] for name in base.upstreams}
    routes = (
        *known.routes[: base.first_routes],
        *told.routes,
        *known.routes[kept - base.last_routes :],
    )
    return structs.replace(told, upstream=upstream, routes=routes)


def _same(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many of the first items are the same."""
    return sum(1 for _ in takewhile(bool, map(eq, one, other)))
