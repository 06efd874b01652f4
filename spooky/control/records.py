"""A generation as the history has it, from what it is made of."""

from spooky.control.candidate import Candidate
from spooky.control.history import Record, Source


def make_record(
    number: int,
    candidate: Candidate,
    source: Source,
    now: float,
    requested_by: str,
    reason: str = "",
    origin: int | None = None,
    *,
    service: str = "",
) -> Record:
    """Return a generation as the history has it.

    Arguments:
        number: Its own.
        candidate: What it is made of.
        source: What made it.
        now: Seconds since 1970.
        requested_by: Who asked for it.
        reason: Why, in their words.
        origin: The generation whose configuration it has again; ``None`` for a new one.
        service: The file that the service was started with.
    """
    return Record(
        number=number,
        time=now,
        source=source,
        path=candidate.path,
        text=candidate.text,
        files=candidate.fingerprints,
        origin=number if origin is None else origin,
        requested_by=requested_by,
        reason=reason,
        overrides=candidate.overrides,
        service=service,
    )
