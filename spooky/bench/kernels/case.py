"""A case: an operation of a kernel, made ready to be timed on whichever side this process is on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spooky._core import COMPILED

State = tuple[Any, ...]


def nothing() -> State:
    """Make no preparation."""
    return ()


def done() -> None:
    """Let go of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is timed.

    Attributes:
        run: One round.
        right: Whether what a round returned is what it should.
        calls: Calls of the kernel in a round.
        bare: The same without these calls, whose time is subtracted; ``None`` if that is nothing.
        before: Prepares a round, untimed; ``run`` gets what it returns.
        close: Called in the end.
    """

    run: Callable[..., Any]
    right: Callable[[Any], bool]
    calls: int = 1
    bare: Callable[[], Any] | None = None
    before: Callable[[], State] = nothing
    close: Callable[[], None] = done


@dataclass(frozen=True, slots=True)
class Case:
    """An operation, by the name that both sides have.

    Attributes:
        name: For people.
        prepare: Makes it ready, with the kernels of this process.
        compiled_only: Whether the twin has nothing like it.
    """

    name: str
    prepare: Callable[[], Work]
    compiled_only: bool = False

    @property
    def offered(self) -> bool:
        """Whether this process can run it."""
        return COMPILED or not self.compiled_only
