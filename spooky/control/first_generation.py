"""The generation that a service starts with."""

import logging
from dataclasses import dataclass

import msgspec

from spooky.control.candidate import Candidate
from spooky.control.history import History, Record, Source, content_digest
from spooky.control.records import make_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resumed:
    """A generation that a service starts with in place of its file.

    Attributes:
        number: Which.
        file: The file, absolute; a reload reads it as soon as it is mended.
    """

    number: int
    file: str


def begin_with(
    candidate: Candidate, history: History, now: float, resumed: Resumed | None = None
) -> tuple[Candidate, Record]:
    """Return what to start with, overridden as it was, and its record: the newest if that is it.

    Arguments:
        candidate: What the file says, or a generation that is resumed.
        history: What was in force before.
        now: Seconds since 1970.
        resumed: Which generation, if one is.
    """
    service, origin = candidate.path, None
    if resumed is not None:
        service, kept = resumed.file, history.get(resumed.number)
        # What is resumed may name another place for the history, with numbers of its own.
        if kept is not None and kept.text == candidate.text:
            origin = kept.origin
    newest = history.newest
    if newest is not None and newest.overrides:
        candidate = candidate.overridden(newest.overrides)
        for one in candidate.overrides:
            logger.warning("%s of %s is overridden, as it was", one.backend, one.upstream)
    digest = content_digest(candidate.text, candidate.fingerprints, candidate.overrides)
    if newest is not None and newest.digest == digest and newest.path == candidate.path:
        newest = msgspec.structs.replace(newest, service=service)
        history.remember(newest)
        return candidate, newest
    if (
        newest is not None
        and newest.path == candidate.path
        and newest.digest == content_digest(candidate.text, newest.files, candidate.overrides)
    ):
        # Only files that it names differ, as after a renewal: the way back is the same.
        origin = newest.origin
    number = history.next_number
    record = make_record(
        number, candidate, Source.START, now, "spooky serve", origin=origin, service=service
    )
    if newest is not None and resumed is None:
        logger.warning(
            "%s differs from generation %d of %s, the last that was in force; this starts as %d",
            candidate.path, newest.number, newest.path, record.number,
        )  # fmt: skip
    return candidate, record
