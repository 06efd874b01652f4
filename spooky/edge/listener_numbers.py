"""What listeners are called between processes: a number that survives others coming and going."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from spooky.config.schema import Listener

LISTENERS_MAX: Final = 256
"""Most listeners, those that drain included: datagrams handed over name theirs in one byte."""


class ListenerIdentity(NamedTuple):
    """What makes a listener the same after a change.

    Attributes:
        address: As it is configured.
        port: As it is configured; 0 for a free one.
        protocol: What it speaks.
        ordinal: Its place among those that are equal in all this, as those with free ports may be.
    """

    address: str
    port: int
    protocol: str
    ordinal: int


def listener_identities(listeners: Iterable[Listener]) -> list[ListenerIdentity]:
    """Return the identity of each listener."""
    seen: Counter[tuple[str, int, str]] = Counter()
    identities = []
    for listener in listeners:
        key = (listener.address, listener.port, listener.protocol)
        identities.append(ListenerIdentity(*key, ordinal=seen[key]))
        seen[key] += 1
    return identities


def number_listeners(
    listeners: Iterable[Listener], numbered: Mapping[ListenerIdentity, int], avoid: Iterable[int]
) -> dict[ListenerIdentity, int]:
    """Return the number of each listener, in order.

    Arguments:
        numbered: Those in force, which keep their numbers.
        avoid: More numbers in use: of removed listeners that drain.

    Raises:
        ValueError: There are too many.
    """
    taken = {*numbered.values(), *avoid}
    free = (number for number in range(LISTENERS_MAX) if number not in taken)
    numbers: dict[ListenerIdentity, int] = {}
    for identity in listener_identities(listeners):
        number = numbered.get(identity)
        if number is None:
            number = next(free, None)
        if number is None:
            raise ValueError(f"there can be {LISTENERS_MAX} listeners, those that drain included")
        numbers[identity] = number
    return numbers
