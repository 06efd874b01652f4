"""Where the keys and values of a configuration are in its text."""

from typing import NamedTuple

from spooky.config.problems import Path


class Place(NamedTuple):
    """A place in a text; both from 1, columns in characters."""

    line: int
    column: int


class Positions:
    """Places by path; empty for a configuration that did not come from a text."""

    def __init__(self) -> None:
        self._keys: dict[Path, Place] = {}
        self._values: dict[Path, Place] = {}

    def add(self, path: Path, key: Place | None, value: Place | None) -> None:
        """Note where the value at a path is, and its key if it has one."""
        if key is not None:
            self._keys[path] = key
        if value is not None:
            self._values[path] = value

    def has(self, path: Path) -> bool:
        """Return whether the text says the value at a path."""
        return path in self._values

    def of_key(self, path: Path) -> Place | None:
        """Return the place of the key at a path, or of the value if it has no key (lists)."""
        return self._keys.get(path) or self.of_value(path)

    def of_value(self, path: Path) -> Place | None:
        """Return the place of the value at a path.

        For a value that is not in the text it is that of the nearest mapping or list around it.
        """
        if path in self._values:
            return self._values[path]
        while path:
            path = path[:-1]
            place = self._keys.get(path) or self._values.get(path)
            if place is not None:
                return place
        return None
