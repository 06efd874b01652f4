"""The collection of problems while a configuration is read and checked."""

from spooky.config.positions import Place, Positions
from spooky.config.problems import Path, Problem, Severity, format_path


class Report:
    """Collects all problems of one configuration.

    A value that is broken in itself is noted once; what the rules then find wrong with it, or
    with values compared with it, is not said.

    Arguments:
        file: Name of the file, or what stands for it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.positions = Positions()
        self._problems: list[Problem] = []
        self._broken: set[Path] = set()

    @property
    def problems(self) -> list[Problem]:
        """The problems so far, in the order of the file."""
        return sorted(self._problems, key=lambda p: (p.line or 0, p.column or 0))

    @property
    def has_errors(self) -> bool:
        """Whether the configuration cannot be used."""
        return any(p.severity is Severity.ERROR for p in self._problems)

    def broken(
        self, path: Path, message: str, remedy: str = "", place: Place | None = None
    ) -> None:
        """Add an error about a value that could not be read.

        Arguments:
            path: The value.
            message: What is wrong.
            remedy: What would be right.
            place: Where; the place of the value if not given.
        """
        self._broken.add(path)
        self._add(Severity.ERROR, place or self.positions.of_value(path), path, message, remedy)

    def error_at(self, place: Place | None, path: Path, message: str, remedy: str = "") -> None:
        """Add an error at a place that no value at a path has, such as a repeated key."""
        self._add(Severity.ERROR, place, path, message, remedy)

    def is_broken(self, *paths: Path) -> bool:
        """Return whether one of these values, or what it is in, could not be read."""
        return bool(self._broken) and any(
            path[:length] in self._broken for path in paths for length in range(len(path) + 1)
        )

    def is_broken_itself(self, path: Path) -> bool:
        """Return whether the value at exactly this path could not be read."""
        return path in self._broken

    def error(
        self, path: Path, message: str, remedy: str = "", related: tuple[Path, ...] = ()
    ) -> None:
        """Add an error that a rule found.

        Arguments:
            path: The value at fault.
            message: What is wrong.
            remedy: What would be right.
            related: Other values that the rule looked at.
        """
        self._judge(Severity.ERROR, path, message, remedy, related)

    def warning(
        self, path: Path, message: str, remedy: str = "", related: tuple[Path, ...] = ()
    ) -> None:
        """Add a warning; arguments as for ``error``."""
        self._judge(Severity.WARNING, path, message, remedy, related)

    def _judge(
        self, severity: Severity, path: Path, message: str, remedy: str, related: tuple[Path, ...]
    ) -> None:
        if not self.is_broken(path, *related):
            self._add(severity, self.positions.of_value(path), path, message, remedy)

    def _add(
        self, severity: Severity, place: Place | None, path: Path, message: str, remedy: str
    ) -> None:
        self._problems.append(
            Problem(
                severity=severity,
                file=self.file,
                line=place.line if place else None,
                column=place.column if place else None,
                path=format_path(path),
                message=message,
                remedy=remedy,
            )
        )
