"""What workers are told: the messages for those that start, and for those that prepare a change."""

from collections.abc import Iterable

from spooky.config.schema import Configuration
from spooky.control.candidate import Candidate
from spooky.control.change import NextGeneration
from spooky.edge.messages import Prepare, Start
from spooky.edge.reduced import Base
from spooky.protocol.quic.keys import Keys
from spooky.protocol.quic.steering import Steering


def start_order(
    slot: int,
    generation: int,
    candidate: Candidate,
    keys: Keys,
    steering: Steering,
    listeners: Iterable[int],
    descriptors: dict[str, int],
    *,
    waits: bool = False,
) -> tuple[Start, dict[str, int]]:
    """Return what a new worker has to know, and its descriptors by name.

    Arguments:
        generation: Number of what it serves.
        candidate: What that is made of.
        listeners: The number of each, in the order of the configuration.
        waits: Whether it serves clients only when it is told to.
    """
    start = Start(
        slot,
        generation,
        candidate.configuration,
        dict(candidate.materials.files),
        candidate.materials.authorities,
        keys,
        steering,
        tuple(listeners),
        waits,
        tuple(descriptors),
    )
    return start, descriptors


def prepare_order(
    change: NextGeneration,
    told: tuple[Configuration, Base],
    listeners: tuple[int, ...],
    descriptors: dict[str, int],
) -> tuple[Prepare, dict[str, int]]:
    """Return what a worker has to know of a change, and its new descriptors by name.

    Arguments:
        told: What of its configuration workers do not have, see :mod:`spooky.edge.reduced`.
        listeners: The number of each, in the order of the configuration.
    """
    configuration, base = told
    materials = change.candidate.materials
    prepare = Prepare(
        change.number,
        configuration,
        dict(materials.files),
        materials.authorities,
        listeners,
        change.drain_seconds,
        tuple(descriptors),
        base,
    )
    return prepare, descriptors
