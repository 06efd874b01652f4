"""Long-lived things, keyed by identity and counted by reference, that outlive a generation."""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Registry(Generic[Key, Value]):
    """One value for each identity, kept while any generation refers to it."""

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[Value, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> Iterator[Value]:
        """Yield every value once."""
        for value, _ in self._entries.values():
            yield value

    def acquire(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of this identity, made if nobody refers to it yet.

        Each call owes one :meth:`release`.
        """
        if key in self._entries:
            value, references = self._entries[key]
        else:
            value, references = make(), 0
        self._entries[key] = (value, references + 1)
        return value

    def release(self, key: Key) -> Value | None:
        """Give one reference up.

        Returns:
            The value if that was the last one, for the caller to close; else ``None``.

        Raises:
            KeyError: Nobody refers to this identity.
        """
        value, references = self._entries[key]
        if references > 1:
            self._entries[key] = (value, references - 1)
            return None
        del self._entries[key]
        return value
