"""What workers are told: the messages for those that start, and for those that prepare a change."""

from collections.abc import Callable, Iterable

from spooky._core.shared import Segment
from spooky.config.schema import Configuration
from spooky.control.candidate import Candidate
from spooky.control.change import InForce, NextGeneration, Step
from spooky.control.crew import Crew
from spooky.control.listeners import Listeners
from spooky.control.logs import Logs
from spooky.control.shared_keys import SharedKeys
from spooky.control.slots import Slots
from spooky.edge.messages import Prepare, Start
from spooky.edge.reduced import Base, reduced
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


class Orders:
    """Tells workers what they need: those that start, and all of a change, in which it takes part.

    Arguments:
        segment: The segment that they share.
        segment_file: Its descriptor.
        slots: Which they have.
        listeners: What they listen on.
        logs: What they log to.
        keys: What they seal with.
        crew: The workers.
        in_force: Gives what they serve.

    Attributes:
        waits: Whether those that start serve clients only when they are told to.
    """

    def __init__(
        self,
        segment: Segment,
        segment_file: int,
        slots: Slots,
        listeners: Listeners,
        logs: Logs,
        keys: SharedKeys,
        crew: Crew,
        in_force: Callable[[], InForce],
        *,
        waits: bool = False,
    ) -> None:
        self._segment = segment
        self._segment_file = segment_file
        self._slots = slots
        self._listeners = listeners
        self._logs = logs
        self._keys = keys
        self._crew = crew
        self._in_force = in_force
        self.waits = waits

    def start(self, slot: int, ways: dict[str, int]) -> tuple[Start, dict[str, int]]:
        """Return what the worker of an active slot has to know, and its descriptors by name."""
        descriptors = {
            "segment": self._segment_file,
            **self._logs.descriptors,
            **ways,
            **self._listeners.descriptors(slot),
        }
        return start_order(
            slot,
            self._segment.generation,
            self._in_force().candidate,
            self._keys.current,
            self._slots.steering,
            self._listeners.numbers.values(),
            descriptors,
            waits=self.waits,
        )

    async def prepare(self, change: NextGeneration) -> Step:
        """Have all workers prepare a change.

        Raises:
            PrepareError: One cannot.
        """
        known = self._in_force()
        told = reduced(
            change.candidate.configuration, known.record.number, known.candidate.configuration
        )

        def make(slot: int) -> tuple[Prepare, dict[str, int]]:
            descriptors = {
                **(self._logs.prepared or {}),
                **self._listeners.prepared_descriptors(slot),
            }
            return prepare_order(change, told, self._listeners.prepared_numbers, descriptors)

        logs = self._logs.prepared

        def make_start(slot: int, ways: dict[str, int]) -> tuple[Start, dict[str, int]]:
            descriptors = {
                "segment": self._segment_file,
                **(self._logs.descriptors if logs is None else logs),
                **ways,
                **self._listeners.coming_descriptors(slot),
            }
            return start_order(
                slot,
                change.number,
                change.candidate,
                self._keys.current,
                self._slots.coming_steering,
                self._listeners.prepared_numbers,
                descriptors,
                waits=True,
            )

        await self._crew.prepare(change, make, make_start)
        return Step(self._crew.committed, self._crew.discard, self._crew.check_prepared)
