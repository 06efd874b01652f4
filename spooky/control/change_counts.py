"""How often something was to be changed, and what came of it, for the metrics."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from spooky.config.problems import ConfigurationError
from spooky.control.history import HistoryError, Source
from spooky.generation.materials import MaterialError
from spooky.observe.metrics import Fact, Kind

_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ConfigurationError, "invalid"),
    (MaterialError, "material"),
    (HistoryError, "history"),
    (asyncio.CancelledError, "cancelled"),
)


class ChangeCounts:
    """Counts changes, and questions what they would be.

    Attributes:
        validations: How often a file was judged.
        previews: How often it was asked what a file would change.
    """

    def __init__(self) -> None:
        self.validations = 0
        self.previews = 0
        self._made: Counter[tuple[Source, str]] = Counter()
        self._rejections: Counter[str] = Counter()

    def made(self, source: Source, changed: bool) -> None:
        """Count a change that was made, or had nothing to do."""
        self._made[source, "success" if changed else "unchanged"] += 1

    def failed(self, source: Source, error: BaseException) -> None:
        """Count a change that came to nothing."""
        self._made[source, "failure"] += 1
        self._rejections[_code_of(error)] += 1

    def facts(self) -> Iterator[Fact]:
        """Yield what the metrics tell of it."""
        yield Fact(
            "runtime_validation_attempts_total", "Times that a configuration was judged.",
            self.validations, kind=Kind.COUNTER,
        )  # fmt: skip
        yield Fact(
            "runtime_preview_attempts_total",
            "Times that it was asked what a configuration would change.", self.previews,
            kind=Kind.COUNTER,
        )  # fmt: skip
        for source in _ACTIVATING:
            for result in _RESULTS:
                yield Fact(
                    "runtime_activation_total",
                    "Changes, by what made them and what came of them, but for rollbacks.",
                    self._made[source, result],
                    (("result", result), ("reason", source.value)), Kind.COUNTER,
                )  # fmt: skip
        for result in _RESULTS:
            yield Fact(
                "runtime_rollback_total", "Rollbacks, by what came of them.",
                self._made[Source.ROLLBACK, result], (("result", result),), Kind.COUNTER,
            )  # fmt: skip
        for code, count in self._rejections.items():
            yield Fact(
                "runtime_rejections_total", "Changes that were not made, by why.", count,
                (("reason", code),), Kind.COUNTER,
            )  # fmt: skip


_RESULTS: Final = ("success", "unchanged", "failure")
_ACTIVATING: Final = (
    Source.RELOAD, Source.APPLY, Source.OVERRIDE, Source.RENEWAL, Source.RESTART,
)  # fmt: skip


def _code_of(error: BaseException) -> str:
    """Return why a change was not made, in a word; few, and always the same."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    return next((code for kind, code in _CODES if isinstance(error, kind)), "defect")


class Outcome(Protocol):
    """What came of a change."""

    @property
    def changed(self) -> bool:
        """Whether another generation came in force."""


class Counting(Protocol):
    """Whoever makes changes."""

    counts: ChangeCounts


Maker = TypeVar("Maker", bound=Counting)
Made = TypeVar("Made", bound=Outcome)
Parameters = ParamSpec("Parameters")


def counted(
    source: Source,
) -> Callable[
    [Callable[Concatenate[Maker, Parameters], Awaitable[Made]]],
    Callable[Concatenate[Maker, Parameters], Awaitable[Made]],
]:
    """Have a method that makes changes count what comes of them."""

    def wrap(
        method: Callable[Concatenate[Maker, Parameters], Awaitable[Made]],
    ) -> Callable[Concatenate[Maker, Parameters], Awaitable[Made]]:
        @wraps(method)
        async def make(self: Maker, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Made:
            try:
                outcome = await method(self, *args, **kwargs)
            except BaseException as error:
                self.counts.failed(source, error)
                raise
            self.counts.made(source, outcome.changed)
            return outcome

        return make

    return wrap
