"""What is wrong with a configuration: problems with their places, and errors that carry them."""

from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the configuration to a value."""

SHOWN_LENGTH_MAX: Final = 60  # longer values are cut in messages: the place says where they are


class Severity(StrEnum):
    """How bad a problem is; only errors keep a configuration from being used."""

    ERROR = "error"
    WARNING = "warning"


class Problem(Struct, frozen=True):
    """One thing wrong with a configuration.

    Attributes:
        severity: Whether the configuration can be used all the same.
        file: Name of the file, or what stands for it.
        line: Line, from 1; ``None`` if the configuration did not come from a text.
        column: Column in characters, from 1; ``None`` likewise.
        path: The value in question, as in ``upstream.api.backends[1].address``; empty for the
            whole.
        message: What is wrong.
        remedy: What would be right; may be empty.
    """

    severity: Severity
    file: str
    line: int | None
    column: int | None
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        subject = f"{self.path}: " if self.path else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{place}: {self.severity}: {subject}{self.message}{remedy}"


class ConfigurationError(Exception):
    """A configuration cannot be used.

    Attributes:
        problems: Everything wrong with it, warnings included, in the order of the file.
        source: The text it was read from, for showing lines; empty if there is none.
    """

    def __init__(self, problems: list[Problem], source: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.source = source


class InvalidValueError(ValueError):
    """A value breaks a rule; what parsers of single values raise.

    Attributes:
        message: What is wrong.
        remedy: What would be right; may be empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def format_path(path: Path) -> str:
    """Return a path as people write it."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif step and all(c.isalnum() or c in "_-" for c in step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f"[{quoted(step)}]")
    return "".join(parts)


def quoted(text: str) -> str:
    """Return a text from a configuration in quotes, cut and with nothing a terminal obeys."""
    if len(text) > SHOWN_LENGTH_MAX:
        text = f"{text[: SHOWN_LENGTH_MAX - 1]}…"
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return f'"{escaped}"'
