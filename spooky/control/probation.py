"""Probation: a new generation is watched for a time, and taken back if traffic fares worse."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from spooky.config.problems import ConfigurationError
from spooky.control.change import Asked, ChangeError, Committed, InForce, Outcome, StaleError
from spooky.control.history import HistoryError, Source
from spooky.control.regression import find_regression
from spooky.control.traffic import Traffic, TrafficReader
from spooky.generation.materials import MaterialError

logger = logging.getLogger(__name__)

BASELINE_SECONDS: Final = 300.0
"""How far back "before" reaches, but never beyond the last change: long enough for a quiet service
to have something to compare with, short enough to be the same time of day."""

SAMPLE_SECONDS: Final = 30.0
"""How often counts are kept for that."""

SETTLE_SECONDS: Final = 2.0
"""What comes so soon after the commit is not counted: requests that began before it, and those that
wait for the first connection to a new backend."""

CHECK_SECONDS: Final = 1.0
"""How often a generation on probation is judged."""

ATTEMPTS: Final = 5
"""How often it is tried to go back: a worker that dies meanwhile stops one attempt."""


class Verdict(StrEnum):
    """What became of a generation on probation."""

    WATCHING = "watching"
    PASSED = "passed"
    GOING_BACK = "going_back"
    ROLLED_BACK = "rolled_back"
    NOT_ROLLED_BACK = "not_rolled_back"
    """It regressed, and what was in force before cannot be put in force again."""
    ENDED = "ended"
    """Another change came, or the service ended, before anything could be said."""

    @property
    def is_open(self) -> bool:
        """Whether the last word is not said yet."""
        return self in (Verdict.WATCHING, Verdict.GOING_BACK)


@dataclass(slots=True)
class _Trial:
    """A generation on probation.

    Attributes:
        generation: Its number.
        in_force: The same, or that of what was overridden on top of it since.
        seconds: How long.
        deadline: When it has passed; on the loop's clock.
        proven: What to go back to.
        before: What came in a time before the change.
        verdict: What became of it.
        reason: Why.
    """

    generation: int
    in_force: int
    seconds: float
    deadline: float
    proven: InForce
    before: Traffic
    verdict: Verdict = Verdict.WATCHING
    reason: str = ""


class Probation:
    """Watches new generations, on the running event loop.

    Arguments:
        reader: Reads how traffic fares.
        go_back: Puts in force again what was.
        on_verdict: Called when what is known has changed.
        on_passed: Called with a generation that has passed.

    Attributes:
        rollbacks: How often a generation was taken back.
    """

    def __init__(
        self,
        reader: TrafficReader,
        go_back: Callable[[InForce, Asked], Awaitable[Outcome]],
        on_verdict: Callable[[], None],
        on_passed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._go_back = go_back
        self._on_verdict = on_verdict
        self._on_passed = on_passed
        self._samples: deque[tuple[float, Traffic]] = deque([(self._loop.time(), reader.read())])
        self._trial: _Trial | None = None
        self._watching: asyncio.Task[None] | None = None
        self._sampling: asyncio.TimerHandle | None = None
        self.rollbacks = 0

    def start(self) -> None:
        """Go on to learn what traffic is like."""
        self._sampling = self._loop.call_later(SAMPLE_SECONDS, self._sample)

    def close(self) -> None:
        """End; idempotent."""
        if self._sampling is not None:
            self._sampling.cancel()
        if self._watching is not None:
            self._watching.cancel()
        self._end("the service ended")

    @property
    def is_open(self) -> bool:
        """Whether a generation is on probation."""
        return self._trial is not None and self._trial.verdict.is_open

    @property
    def status(self) -> dict[str, Any] | None:
        """What is known of the last generation that was on probation, as JSON values."""
        trial = self._trial
        if trial is None:
            return None
        left = trial.deadline - self._loop.time() if trial.verdict is Verdict.WATCHING else 0.0
        return {
            "generation": trial.generation,
            "verdict": trial.verdict.value,
            "seconds": trial.seconds,
            "seconds_left": round(max(0.0, left), 1),
            "reason": trial.reason,
        }

    def committed(self, commit: Committed) -> None:
        """Put a generation on probation that came in force just now, if it is to be.

        Another change ends a probation. If the new generation is on probation too, as one is that a
        rollback leads to and that never passed its own, it is held
        against the last one that proved itself, and would go back to that. What is overridden at
        run time, such as a backend that is drained, is neither watched nor an end; nor are new
        workers with the same configuration.
        """
        if commit.source.is_by_the_way:
            if self._trial is not None:
                self._trial.in_force = commit.number
                # Which of their backends can serve is no longer due to what is on probation.
                self._trial.before = self._trial.before.without_readiness_of(commit.overridden)
            return
        counts = self._reader.read()
        trial = self._trial
        unproven = trial if trial is not None and trial.verdict.is_open else None
        proven, before = commit.before, counts - self._samples[0][1]
        if unproven is not None:
            proven, before = unproven.proven, unproven.before
            # Where it goes back, that is the end of it, and says more.
            goes_back = unproven.verdict is Verdict.GOING_BACK and not commit.probation_seconds
            if not (goes_back and commit.source is Source.ROLLBACK):
                self._end(f"generation {commit.number} came in force")
        # What traffic is like from here on is due to this change.
        self._samples.clear()
        self._samples.append((self._loop.time(), counts))
        if commit.probation_seconds:
            deadline = self._loop.time() + commit.probation_seconds
            seconds = commit.probation_seconds
            self._trial = _Trial(commit.number, commit.number, seconds, deadline, proven, before)
            if self._watching is not None:
                self._watching.cancel()
            self._watching = self._loop.create_task(self._judge(self._trial))
            logger.info("generation %d is on probation for %.0f s", commit.number, seconds)

    def _sample(self) -> None:
        now = self._loop.time()
        self._samples.append((now, self._reader.read()))
        while len(self._samples) > 1 and self._samples[1][0] <= now - BASELINE_SECONDS:
            self._samples.popleft()
        self.start()

    async def _judge(self, trial: _Trial) -> None:
        try:
            await self._watch(trial)
        except Exception as error:
            # A defect of ours: whoever waits for a verdict gets one.
            logger.exception("cannot judge generation %d", trial.generation)
            self._say(trial, Verdict.NOT_ROLLED_BACK, f"{trial.reason}; a defect: {error!r}")

    async def _watch(self, trial: _Trial) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        start = self._reader.read()
        while trial.verdict is Verdict.WATCHING:
            left = trial.deadline - self._loop.time()
            await asyncio.sleep(max(0.0, min(CHECK_SECONDS, left)))
            if trial.verdict is not Verdict.WATCHING:
                return
            if worse := find_regression(trial.before, self._reader.read() - start):
                await self._take_back(trial, worse)
            elif self._loop.time() >= trial.deadline:
                self._say(trial, Verdict.PASSED, "")
                self._on_passed(trial.generation)
                logger.info("generation %d has passed its probation", trial.generation)

    async def _take_back(self, trial: _Trial, worse: str) -> None:
        self._say(trial, Verdict.GOING_BACK, worse)
        number = trial.generation
        logger.error("generation %d regressed, going back: %s", number, worse)
        reason = f"generation {number} regressed: {worse}"
        text = ""
        for _ in range(ATTEMPTS):
            asked = Asked("probation", reason, trial.in_force)
            try:
                outcome = await self._go_back(trial.proven, asked)
            except StaleError:
                # Whoever changed it meanwhile knows better.
                self._end("another generation came in force")
                return
            except (ChangeError, ConfigurationError, HistoryError, MaterialError) as error:
                text = str(error)
                logger.error("cannot go back from generation %d: %s", number, error)
                await asyncio.sleep(CHECK_SECONDS)
                continue
            if outcome.changed:
                self.rollbacks += 1
                text = f"{worse}; generation {outcome.record.number} is in force"
                self._say(trial, Verdict.ROLLED_BACK, text)
                return
            text = "what was in force before is the same"
            break
        self._say(trial, Verdict.NOT_ROLLED_BACK, f"{worse}; {text}")

    def _end(self, why: str) -> None:
        if self._trial is not None and self._trial.verdict.is_open:
            self._say(self._trial, Verdict.ENDED, why)

    def _say(self, trial: _Trial, verdict: Verdict, reason: str) -> None:
        trial.verdict, trial.reason = verdict, reason
        self._on_verdict()
