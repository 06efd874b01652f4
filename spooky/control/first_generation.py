"""The generation that a service starts with."""

import logging

from spooky.control.candidate import Candidate
from spooky.control.history import History, Record, Source, content_digest
from spooky.control.records import make_record

logger = logging.getLogger(__name__)


def begin_with(candidate: Candidate, history: History, now: float) -> tuple[Candidate, Record]:
    """Return what to start with, overridden as it was, and its record: the newest if that is it.

    Arguments:
        candidate: What the file says.
        history: What was in force before.
        now: Seconds since 1970.
    """
    newest = history.newest
    if newest is not None and newest.overrides:
        candidate = candidate.overridden(newest.overrides)
        for one in candidate.overrides:
            logger.warning("%s of %s is overridden, as it was", one.backend, one.upstream)
    digest = content_digest(candidate.text, candidate.fingerprints, candidate.overrides)
    if newest is not None and newest.digest == digest and newest.path == candidate.path:
        return candidate, newest
    number = history.next_number
    record = make_record(number, candidate, Source.START, now, "spooky serve")
    if newest is not None:
        logger.warning(
            "%s differs from generation %d, the last that was in force; this starts as %d",
            candidate.path, newest.number, record.number,
        )  # fmt: skip
    return candidate, record
