"""A change: who asks for it, who takes part in it, what comes of it, and why it is not made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from spooky.config.problems import Problem
from spooky.config.schema import Backend
from spooky.control.candidate import Candidate
from spooky.control.history import Record, Source
from spooky.control.overrides import Overrides
from spooky.control.plan import Plan


class ChangeError(Exception):
    """A change is not made, and what is in force stays; says why.

    Attributes:
        code: Why, in a word, for programs and metrics.
    """

    code: str = "not_changed"


class NotNowError(ChangeError):
    """The service starts, ends, or is another program's by now: then nothing is changed.

    Attributes:
        code: Which, for programs.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class StaleError(ChangeError):
    """Something else is in force than whoever asked for the change believes."""

    code = "stale"


class UnknownGenerationError(ChangeError):
    """The generation is not in the history."""

    code = "unknown_generation"


class UnknownBackendError(ChangeError):
    """There is no backend of this name."""

    code = "unknown_object"


class PrepareError(ChangeError):
    """A participant cannot take part."""

    code = "not_prepared"


Act: TypeAlias = Callable[[Overrides, Backend], Overrides]
"""What is done to a backend at run time: from the overrides there are, and the backend as it is
now, to the overrides that there shall be."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one participant has made for a change.

    Attributes:
        commit: Puts it in force; cannot fail.
        discard: Undoes it; cannot fail.
        check: Tries the last thing that may fail, just before the commit.
    """

    commit: Callable[[], None]
    discard: Callable[[], None]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class NextGeneration:
    """What a change would put in force.

    Attributes:
        number: The generation's.
        candidate: What it is made of.
        rolling: Whether it takes new workers.
    """

    number: int
    candidate: Candidate
    rolling: bool

    @property
    def drain_seconds(self) -> float:
        """How long what is removed has to finish."""
        return self.candidate.configuration.performance.shutdown_drain_timeout_ms / 1000


class Participant(Protocol):
    """Whoever has to do with a change."""

    async def prepare(self, change: NextGeneration) -> Step:
        """Make all that a change needs, without effect.

        Raises:
            PrepareError: It cannot be.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a change, and what they know.

    Attributes:
        requested_by: Who.
        reason: Why, in their words.
        generation: The generation that they believe in force; ``None`` if they did not say.
        probation_seconds: How long what comes in force is watched; ``None`` for what it says
            itself.
    """

    requested_by: str
    reason: str = ""
    generation: int | None = None
    probation_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force, or was.

    Attributes:
        candidate: What it is made of.
        record: The same, as the history has it.
    """

    candidate: Candidate
    record: Record


@dataclass(frozen=True, slots=True)
class Committed:
    """A generation that came in force.

    Attributes:
        number: The generation's.
        source: What made it.
        before: What was in force.
        probation_seconds: How long it is to be watched; 0 for not at all.
        overridden: The upstreams of which other things are set at run time than before.
    """

    number: int
    source: Source
    before: InForce
    probation_seconds: float
    overridden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change.

    Attributes:
        record: The generation in force.
        plan: What was planned.
        seconds: How long it took from the plan to the commit.
        changed: Whether another generation came in force.
        warnings: What is not as it should be in the file that was put in force.
    """

    record: Record
    plan: Plan
    seconds: float
    changed: bool
    warnings: tuple[Problem, ...] = ()
