"""The change pipeline: from a candidate to a generation in force, or to nothing at all.

Whoever has to do with a change takes part in it: each participant first makes all that it needs,
without effect on clients. If all could, the generation is written to the history, what may still
fail is tried, and its number is stored in the shared segment: that is the commit. After it nothing
can fail; if anything failed before, every participant undoes what it made.
"""

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from spooky._core.shared import LIMITS_MAX, Segment
from spooky.config.problems import Problem
from spooky.config.shared_room import shared_entries
from spooky.control.candidate import Candidate, read_change, snapshot_of
from spooky.control.change import (
    Act,
    Asked,
    ChangeError,
    Committed,
    InForce,
    NextGeneration,
    NotNowError,
    Outcome,
    Participant,
    StaleError,
    Step,
    UnknownBackendError,
    UnknownGenerationError,
)
from spooky.control.change_counts import ChangeCounts, counted
from spooky.control.effects import Effect
from spooky.control.file_warnings import log_warnings
from spooky.control.files_seen import FilesSeen, sha256
from spooky.control.history import History, HistoryError, Record, Source
from spooky.control.overrides import find_backend
from spooky.control.plan import Plan, plan
from spooky.control.records import make_record
from spooky.control.renewal import read_renewal
from spooky.control.restoring import restore, review
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)


Read = TypeVar("Read")


class Changes:
    """Makes changes, one after the other.

    Arguments:
        candidate: What is in force at first.
        record: The same, as the history has it.
        history: Where generations are kept.
        segment: Where the number in force is.
        participants: In the order in which they prepare and commit.

    Attributes:
        running: What is in force.
        record: The same, as the history has it.
        history: Where generations are kept.
        source: The file that a reload reads.
        seen: What it and other files said, and is not to come in force again by itself.
        participants: In the order in which they prepare and commit.
        counts: How often what was asked for, and what came of it.
        starting: Whether the service starts, and nothing is changed yet.
        ending: Whether the service ends, and nothing is changed any more.
        handed_over: Whether another program serves, which makes changes from then on.
        on_committed: Called after each commit.
        known_names: Returns the names of backends that are followed, each with why it does not
            resolve, or nothing.
    """

    def __init__(
        self,
        candidate: Candidate,
        record: Record,
        history: History,
        segment: Segment,
        participants: list[Participant],
    ) -> None:
        self.running = candidate
        self.record = record
        self.history = history
        self.source = record.service or candidate.path
        # Of a file that is broken, so that an earlier generation serves, nothing is known.
        resumed = self.source != candidate.path
        self.seen = FilesSeen(b"" if resumed else sha256(candidate.text.encode()))
        self.counts = ChangeCounts()
        self.starting = True
        self.ending = False
        self.handed_over = False
        self.on_committed: Callable[[Committed], None] = lambda _: None
        self.known_names: Callable[[], Mapping[str, str]] = dict
        self._tried = 0
        self._segment = segment
        self.participants = participants
        self._one_at_a_time = asyncio.Lock()

    @property
    def in_force(self) -> InForce:
        """What is in force, and the same as the history has it."""
        return InForce(self.running, self.record)

    @contextlib.asynccontextmanager
    async def halted(self) -> AsyncIterator[None]:
        """Make no change as long as this is open.

        Raises:
            ChangeError: Spooky is ending.
        """
        async with self._one_at_a_time:
            self._refuse_out_of_time()
            yield

    async def preview(self, path: Path) -> Plan:
        """Return what it would mean to put a file in force.

        Raises:
            ConfigurationError: It has errors.
            MaterialError: It is no regular file, or a certificate or key cannot be used.
        """
        self.counts.previews += 1
        return await self._plan(await self._read(path))

    async def preview_rollback(self, number: int | None) -> Plan:
        """Return what a rollback would change; takes what :meth:`rollback` does, and raises so."""
        self.counts.previews += 1
        target = self._rollback_target(number)
        candidate = await _in_thread(lambda: restore(target, self.running))
        return await self._plan(candidate, target.number)

    async def judge(self, path: Path) -> tuple[Plan, tuple[Problem, ...]]:
        """Return what a file would change, and what is not as it should be in it.

        The network is asked too: whether addresses can be bound, and whether names resolve. Raises
        as :meth:`preview`.
        """
        self.counts.validations += 1
        candidate = await self._read(path, network=True)
        return await self._plan(candidate), candidate.warnings

    async def judge_rollback(self, number: int | None) -> tuple[Plan, tuple[Problem, ...]]:
        """Return what a rollback would change, and what is not as it should be in what it takes.

        The network is asked as by :meth:`judge`. Takes what :meth:`rollback` does, and raises so.
        """
        self.counts.validations += 1
        target = self._rollback_target(number)
        candidate = await _in_thread(lambda: review(target, self.running))
        return await self._plan(candidate, target.number), candidate.warnings

    @counted(Source.APPLY)
    async def apply(self, path: Path, asked: Asked) -> Outcome:
        """Put a file in force; it is what a reload reads from then on.

        Raises:
            ConfigurationError: It has errors.
            MaterialError: A certificate or key cannot be used.
            ChangeError: The change cannot be made.
        """
        return await self._change_to(path, Source.APPLY, asked)

    @counted(Source.RELOAD)
    async def reload(self, asked: Asked) -> Outcome:
        """Put in force what the file says now; raises as :meth:`apply`."""
        if not self.source:
            raise ChangeError("there is no file to reload: it was started without one")
        return await self._change_to(Path(self.source), Source.RELOAD, asked)

    @counted(Source.ROLLBACK)
    async def rollback(self, number: int | None, asked: Asked) -> Outcome:
        """Put an earlier generation in force again, as a new one, with the files as they are now.

        Of those that cannot be used, what is in use stays, and a warning says so. One that never
        passed its probation has that again, if nothing else is asked for.

        Arguments:
            number: Which; ``None`` for the one before the origin of what is in force.
            asked: Who asks.

        Raises:
            UnknownGenerationError: It is not in the history.
            ConfigurationError: It has errors, by now.
            MaterialError: A certificate or key cannot be used, and is not in use.
            ChangeError: The change cannot be made.
        """
        async with self._one_at_a_time:
            target = self._rollback_target(number)
            candidate = await _in_thread(lambda: restore(target, self.running))
            if asked.probation_seconds is None:
                asked = replace(asked, probation_seconds=_probation_again(target, candidate))
            outcome = await self._make(candidate, Source.ROLLBACK, asked, target.origin)
            self.seen.rolled_back()
            log_warnings(candidate.warnings, ())
            return replace(outcome, warnings=candidate.warnings)

    @counted(Source.ROLLBACK)
    async def restore(self, earlier: InForce, asked: Asked) -> Outcome:
        """Put in force again what was, with the files as they were; raises as :meth:`apply`."""
        asked = replace(asked, probation_seconds=0.0)
        async with self._one_at_a_time:
            candidate = earlier.candidate
            if self.record.source.is_by_the_way:
                # Done by hand since, and for another reason.
                candidate = candidate.overridden(self.running.overrides)
            given_up = self.running.contents
            outcome = await self._make(candidate, Source.ROLLBACK, asked, earlier.record.origin)
            # Still on disk: whoever watches files must not think them new.
            self.seen.give_up(given_up, candidate.contents)
            return outcome

    @counted(Source.OVERRIDE)
    async def override(self, upstream: str, backend: str, act: Act, asked: Asked) -> Outcome:
        """Set something of a backend at run time, in place of what the file says.

        It outlives reloads until the file says the same, or has no such backend any more.

        Arguments:
            upstream: The backend's upstream.
            backend: Its id.
            act: Gives the overrides that there shall be, from those that there are and the backend.
            asked: Who asks.

        Raises:
            UnknownBackendError: There is no such backend.
            ChangeError: The change cannot be made.
        """
        async with self._one_at_a_time:
            found = find_backend(self.running.configuration, upstream, backend)
            if found is None:
                raise UnknownBackendError(f"there is no backend {backend!r} of {upstream!r}")
            overrides = act(self.running.overrides, found)
            return await self._make(
                self.running.overridden(overrides), Source.OVERRIDE, asked, None
            )

    @counted(Source.RESTART)
    async def restart(self, asked: Asked) -> Outcome:
        """Have new workers take over with what is in force; raises as :meth:`apply`."""
        async with self._one_at_a_time:
            origin = self.record.origin
            return await self._make(self.running, Source.RESTART, asked, origin, new_workers=True)

    @counted(Source.RENEWAL)
    async def renew_now(self, asked: Asked) -> Outcome:
        """Put in force certificates, keys, authorities and tokens as the files are now.

        Raises:
            MaterialError: One cannot be used, so none is taken.
            ChangeError: The change cannot be made.
        """
        async with self._one_at_a_time:
            now = datetime.datetime.now(datetime.UTC)
            renewal = await _in_thread(lambda: read_renewal(self.running, {}, now))
            if renewal.problems:
                raise MaterialError("; ".join(renewal.problems))
            origin = self.record.origin
            return await self._make(renewal.candidate, Source.RENEWAL, asked, origin)

    @counted(Source.RENEWAL)
    async def renew(self, candidate: Candidate, asked: Asked) -> Outcome:
        """Put in force what differs in certificates alone; raises as :meth:`apply`."""
        async with self._one_at_a_time:
            return await self._make(candidate, Source.RENEWAL, asked, self.record.origin)

    async def keep_first(self, *, inherited: bool) -> None:
        """Put into the history what it started with, now that it serves.

        Arguments:
            inherited: Whether that was in force in another program until now.

        Raises:
            HistoryError: It cannot be.
        """
        number = self.record.number
        if self.history.get(number) is None:
            self.history.add(self.record)
        elif self.record.unproven and not inherited:
            text = "generation %d was on probation when Spooky ended; it is in force without now"
            logger.warning("%s, as the file has not changed", text % number)
            await self.prove(number)

    async def prove(self, first: int) -> None:
        """Take note that a generation has passed its probation, and what it became since."""
        async with self._one_at_a_time:
            for record in [one for one in self.history if one.number >= first and one.unproven]:
                proven = msgspec.structs.replace(record, unproven=False)
                try:
                    await asyncio.to_thread(self.history.write, proven)
                except HistoryError as error:
                    logger.warning("generation %d stays unproven: %s", record.number, error)
                    continue
                self.history.remember(proven)
                if self.record is record:
                    self.record = proven

    async def _read(self, path: Path, *, network: bool = False, names: bool = False) -> Candidate:
        """Read a file, with what is overridden now, and ask the network or only for new names."""
        known = self.known_names() if names else None
        read = await _in_thread(lambda: read_change(path, network, known))
        return read.overridden(self.running.overrides)

    def _rollback_target(self, number: int | None) -> Record:
        active = self.record.number
        target = self.history.before(active) if number is None else self.history.get(number)
        if target is not None:
            return target
        kept = ", ".join(str(record.number) for record in self.history)
        if number is None:
            unproven = ", ".join(str(one.number) for one in self.history if one.unproven)
            only = f"; only by its number to one whose probation did not end well: {unproven}"
            raise UnknownGenerationError(
                f"there is no earlier generation to go back to{only if unproven else ''}; "
                f"these are kept: {kept}"
            )
        raise UnknownGenerationError(f"generation {number} is not kept; these are: {kept}")

    async def _change_to(self, path: Path, source: Source, asked: Asked) -> Outcome:
        async with self._one_at_a_time:
            # New addresses are bound when listeners prepare; of the network, only names are left.
            candidate = await self._read(path, names=True)
            before = self.running.warnings
            outcome = await self._make(candidate, source, asked, None)
            self.source = candidate.path
            self.seen.put_in_force(candidate.text.encode())
            log_warnings(candidate.warnings, before)
            return replace(outcome, warnings=candidate.warnings)

    async def _make(
        self,
        candidate: Candidate,
        source: Source,
        asked: Asked,
        origin: int | None,
        *,
        new_workers: bool = False,
    ) -> Outcome:
        """Plan, prepare and commit; with new workers, even if nothing differs."""
        self._refuse_out_of_time()
        began = time.monotonic()
        active = self.record.number
        if asked.generation not in (None, active):
            raise StaleError(
                f"generation {active} is in force, not {asked.generation}: look at it first"
            )
        made = await self._plan(candidate)
        self._refuse_out_of_time()
        if not made.changes and not made.settled and not new_workers:
            return Outcome(self.record, made, time.monotonic() - began, changed=False)
        if source is not Source.ROLLBACK:
            # What an earlier generation had may be there still, and a way back is never shut.
            self._refuse_without_room(candidate)
        # A number is never used again: a worker may still speak of one that came to nothing.
        number = self._tried = max(self.history.next_number, active + 1, self._tried + 1)
        probation: float = candidate.configuration.control.probation
        if asked.probation_seconds is not None:
            probation = asked.probation_seconds
        if source.is_by_the_way:
            probation = 0.0
        record = make_record(
            number, candidate, source, time.time(), asked.requested_by, asked.reason, origin,
            service=self.record.service,
        )  # fmt: skip
        is_as_before = probation == 0 and source.proves_nothing and self.record.unproven
        record = msgspec.structs.replace(
            record,
            unproven=probation > 0 or is_as_before,
            probation_seconds=self.record.probation_seconds if is_as_before else probation,
        )
        before = self.in_force
        rolling = new_workers or made.effect is Effect.ROLLING
        await self._carry_out(NextGeneration(number, candidate, rolling), record)
        seconds = time.monotonic() - began
        logger.info(
            "generation %d is in force after %.0f ms: %s of %s, asked by %s",
            number, 1000 * seconds, source, candidate.path, asked.requested_by,
        )  # fmt: skip
        overrides = set(before.candidate.overrides) ^ set(candidate.overrides)
        overridden = frozenset(one.upstream for one in overrides)
        self.on_committed(Committed(number, source, before, probation, overridden))
        return Outcome(record, made, seconds, changed=True)

    def _refuse_without_room(self, candidate: Candidate) -> None:
        """Refuse what the shared table has no room for beside what is there, and still drains.

        Raises:
            ChangeError: So it is.
        """
        there = shared_entries(self.running.configuration)
        wanted = shared_entries(candidate.configuration)
        added = sum(count for key, count in wanted.items() if key not in there)
        free = LIMITS_MAX - self._segment.entries
        if added > free:
            raise ChangeError(
                f"the upstreams, backends and routes that this change adds take {added} entries of "
                f"the table that workers share, and {free} of {LIMITS_MAX} are free: add fewer at "
                "once, or wait until what was removed before has drained"
            )

    async def _carry_out(self, change: NextGeneration, record: Record) -> None:
        steps: list[Step] = []
        writing: asyncio.Task[None] | None = None
        try:
            for participant in self.participants:
                steps.append(await participant.prepare(change))
            writing = asyncio.create_task(asyncio.to_thread(self.history.write, record))
            await asyncio.shield(writing)
            # The first to prepare is the last to be sure: listeners, which clients notice.
            for step in reversed(steps):
                step.check()
            self._refuse_out_of_time()
        except BaseException as error:
            logger.error("generation %d does not come in force: %s", change.number, error)
            if writing is not None:
                await asyncio.wait({writing})
                self.history.remove(change.number)
            for step in reversed(steps):
                try:
                    step.discard()
                except Exception:
                    # What one participant cannot undo must not keep the others from it.
                    logger.exception("a part of generation %d is not undone", change.number)
            raise
        self._segment.commit(change.number)
        self.running, self.record = change.candidate, record
        self.history.remember(record)
        for step in steps:
            try:
                step.commit()
            except Exception:
                # It is in force already: what one participant does wrong must not stop the others.
                logger.exception("a part of generation %d is not as it should be", change.number)
        self.history.prune()

    def _refuse_out_of_time(self) -> None:
        if self.starting:
            raise NotNowError("starting", "Spooky is starting: nothing is changed yet")
        if self.handed_over:
            text = "another program has taken over, and makes changes from now on: ask again"
            raise NotNowError("handed_over", text)
        if self.ending:
            raise NotNowError("ending", "Spooky is ending: nothing is changed any more")

    async def _plan(self, candidate: Candidate, number: int | None = None) -> Plan:
        """Return the plan of a candidate; ``number`` is the generation's that it is again."""
        running = snapshot_of(self.running, self.record.number)
        wanted = snapshot_of(candidate, number)
        # Of a large change it takes long, and the loop has others to serve.
        return await asyncio.to_thread(plan, running, wanted, datetime.datetime.now(datetime.UTC))


def _probation_again(target: Record, candidate: Candidate) -> float:
    """Return how long what was in force before is watched when it comes in force again; seconds."""
    if not target.unproven:
        return 0.0
    return target.probation_seconds or candidate.configuration.control.probation


async def _in_thread(read: Callable[[], Read]) -> Read:
    """Return what reading files gives, which takes as long as a disk takes.

    Raises:
        ChangeError: The machine has no room for it, or no descriptor.
    """
    try:
        return await asyncio.to_thread(read)
    except OSError as error:
        raise ChangeError(f"the files cannot be used: {error.strerror or error}") from error
