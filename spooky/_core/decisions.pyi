"""The ring of recent decisions: what became of each request that a worker ended, newest last."""

from mmap import mmap
from struct import Struct
from typing import Final

RING_MIN_BYTES: Final[int]
"""The least that a ring takes, so that the longest record is a small part of it."""

RING_HEAD_BYTES: Final[int]
"""What an area has beside the records."""

METHOD_MAX: Final[int]
"""What is kept of a request's method; bytes."""

HOST_MAX: Final[int]
"""What is kept of its host: all of it."""

PATH_MAX: Final[int]
"""What is kept of its path; bytes."""

NAME_MAX: Final[int]
"""What is kept of a name; bytes of UTF-8."""

NOTES_MAX_BYTES: Final[int]
"""What the notes on one request may take."""

PATH_CUT: Final[int]
"""Flag of a record whose path was longer than what is kept of it."""

NOTES_CUT: Final[int]
"""Flag of a record with more notes than found room."""

class Notes:
    """What was out of the ordinary about one request, in the order in which it happened.

    Attributes:
        count: How many there are.
        dropped: How many found no room.
    """

    count: int
    dropped: int

    def __init__(self) -> None: ...
    def add(
        self,
        kind: int,
        at: float,
        reason: int,
        name: str,
        first: float = 0.0,
        second: float = 0.0,
        third: float = 0.0,
        fourth: float = 0.0,
    ) -> bool:
        """Add one.

        Arguments:
            kind: What happened, as whoever reads it numbers that.
            at: When; seconds.
            reason: A reason's index.
            name: What it happened to.
            first: Numbers, the meaning of which is the kind's.

        Returns:
            Whether there was room.
        """

    def data(self) -> bytes:
        """Return all of them, as a record has them."""

class Admitted:
    """The stages that let a request in, each with its numbers at that moment, and its choice.

    Attributes:
        count: How many stages there are.
        candidates: How many backends were held against each other.
    """

    count: int
    candidates: int

    def __init__(self) -> None: ...
    def add(self, name: str, value: int, limit: int) -> None:
        """Add a stage; those beyond :data:`STAGES_MAX` are left out.

        Arguments:
            name: Which; 12 bytes of it are kept.
            value: What it compared with its limit.
        """

    def add_candidate(
        self,
        position: int,
        is_chosen: bool,
        active: int,
        weight: float,
        latency: float,
        score: float,
    ) -> None:
        """Add a backend that was held against others when one was chosen.

        Those beyond :data:`CANDIDATES_MAX` are left out, and those beyond the 65,536th backend.

        Arguments:
            position: Among the upstream's backends.
            is_chosen: Whether it was chosen.
            active: Its requests in flight, as the balancer counts them.
            weight: Its weight, as far as its share goes.
            latency: What the balancer takes for its latency; ms, negative if it knows none.
            score: What was held against that of others; negative if there was none.
        """

    def data(self) -> bytes:
        """Return all of them, as a record has them."""

class Ring:
    """One worker slot's ring; whoever writes is alone, whoever reads disturbs nobody.

    Arguments:
        area: Writable memory, zeroed before it is first used.

    Raises:
        ValueError: The area is too small.
    """

    def __init__(self, area: mmap | bytearray | memoryview[int]) -> None: ...
    @property
    def capacity(self) -> int:
        """Bytes of records that it keeps; 0 if it keeps none."""

    @property
    def written(self) -> int:
        """How many records were ever written."""

    @property
    def has_forgotten(self) -> bool:
        """Whether a record was written over."""

    def resize(self, capacity: int) -> None:
        """Use so many bytes from now on; what was written is forgotten if that is a change.

        Arguments:
            capacity: 0 for none; else brought between the least, and what the area has.
        """

    def write(
        self,
        request_id: str,
        generation: int,
        started: float,
        connected: float,
        first_byte: float,
        ended: float,
        reason: int,
        status: int,
        received: int,
        sent: int,
        protocol: str,
        upstream_protocol: str,
        upstream: str,
        backend: str,
        method: bytes,
        host: bytes,
        path: bytes,
        admitted: Admitted | None = None,
        notes: Notes | None = None,
    ) -> bool:
        """Write what became of a request over the oldest; what is too long is cut.

        Arguments:
            started: When its head came; seconds, as all moments, negative for what was not.
            reason: The reason's index.
            admitted: The stages that let it in.
            notes: What was out of the ordinary.

        Returns:
            Whether the ring keeps any.

        Raises:
            ValueError: The id is none.
        """

    def find(self, key: int) -> bytes | None:
        """Return the record of a request, the last if there are several.

        Arguments:
            key: What :func:`key_of` gives.
        """

    def recent(self, count: int) -> list[bytes]:
        """Return so many of the last records, the oldest of them first."""

    def oldest(self) -> bytes | None:
        """Return the oldest record."""

def key_of(request_id: str) -> int:
    """Return what a request is found by: its id without the slot.

    Raises:
        ValueError: It is no id.
    """

STAGES_MAX: Final[int]
"""How many stages a record has room for."""

RECORD: Final[Struct]
"""How a record begins; the stages, the candidates, the texts and the notes follow."""

STAGE: Final[Struct]
"""A stage."""

CANDIDATES_MAX: Final[int]
"""How many backends that were held against each other a record has room for."""

CANDIDATE: Final[Struct]
"""One of them."""

NOTE: Final[Struct]
"""How a note begins; its name follows."""
