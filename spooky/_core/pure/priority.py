# cython: annotation_typing=False
"""Priorities of HTTP responses: the value of the ``priority`` field (RFC 9218 sections 4 and 5).

The value is a Structured Fields Dictionary. RFC 9218 names RFC 8941 for its syntax, so what later
versions of it added is malformed here, and a malformed value counts as none.

This is the kernel's source and its twin, as in :mod:`spooky._core.pure.h3`.
"""

from typing import Final, NamedTuple

DEFAULT_URGENCY: Final = 3
LOWEST_URGENCY: Final = 7
"""RFC 9218 section 4.1; 0 is the most urgent."""


class Priority(NamedTuple):
    """What order a response has among the others of a connection.

    Attributes:
        urgency: From 0, the most urgent, to 7.
        incremental: Whether it is of use in parts, so that it takes turns with others.
    """

    urgency: int = DEFAULT_URGENCY
    incremental: bool = False


DEFAULT_PRIORITY: Final = Priority()
"""What omitted parameters mean in a client's signal (RFC 9218 section 4)."""

INTEGER_MAX_DIGITS: Final = 15
DECIMAL_MAX_DIGITS: Final = 12
FRACTION_MAX_DIGITS: Final = 3
"""RFC 8941 sections 3.3.1 and 3.3.2."""

_DIGITS: Final = b"0123456789"
_LOWER: Final = b"abcdefghijklmnopqrstuvwxyz"
_ALPHA: Final = _LOWER + _LOWER.upper()
_KEY_START: Final = _LOWER + b"*"
_KEY: Final = _LOWER + _DIGITS + b"_-.*"
_TOKEN_START: Final = _ALPHA + b"*"
_TOKEN: Final = _ALPHA + _DIGITS + b"!#$%&'*+-.^_`|~:/"
_BASE64: Final = _ALPHA + _DIGITS + b"+/="

# The characters that direct the parser.
_SPACE = 0x20
_TAB = 0x09
_QUOTE = 0x22
_OPEN = 0x28
_CLOSE = 0x29
_COMMA = 0x2C
_MINUS = 0x2D
_DOT = 0x2E
_ZERO = 0x30
_ONE = 0x31
_COLON = 0x3A
_SEMICOLON = 0x3B
_EQUALS = 0x3D
_QUESTION = 0x3F
_BACKSLASH = 0x5C
_DELETE = 0x7F

# Kinds of bare items, as far as they make a difference here.
_OTHER = 0
_INTEGER = 1
_BOOLEAN = 2


def parse_priority(value: bytes, base: Priority) -> Priority | None:
    """Read the value of a ``priority`` field or of a PRIORITY_UPDATE frame.

    Parameters that are unknown, out of range or of another type are ignored.

    Arguments:
        value: Several field lines joined as one.
        base: What holds where the value says nothing: ``DEFAULT_PRIORITY`` for a client's signal,
            the client's for that of a server (RFC 9218 section 8).

    Returns:
        The priority, or ``None`` if the value is malformed and says nothing at all.
    """
    return _Parser(value).parse(base)


class _Parser:
    """Reads a Dictionary (RFC 8941 section 4.2.2), keeping of it what RFC 9218 defines."""

    def __init__(self, value: bytes) -> None:
        self._data = value
        self._size = len(value)
        self._position = 0
        # Of the item read last: an integer's or a boolean's value.
        self._value = 0

    def parse(self, base: Priority) -> Priority | None:
        """Read all of it."""
        urgency = -1
        incremental = -1
        self._skip_spaces()
        while self._position < self._size:
            start = self._position
            if not self._read_key():
                return None
            length = self._position - start
            name = self._data[start] if length == 1 else 0
            kind = self._read_member()
            if kind < 0:
                return None
            # A key that comes again replaces what it said before.
            if name == 0x75:  # u
                in_range = kind == _INTEGER and 0 <= self._value <= LOWEST_URGENCY
                urgency = self._value if in_range else -1
            elif name == 0x69:  # i
                incremental = self._value if kind == _BOOLEAN else -1
            if not self._read_separator():
                return None
        return Priority(
            base[0] if urgency < 0 else urgency, base[1] if incremental < 0 else incremental == 1
        )

    def _peek(self) -> int:
        """Return the next byte, or -1 at the end."""
        return self._data[self._position] if self._position < self._size else -1

    def _skip_spaces(self) -> None:
        while self._position < self._size and self._data[self._position] == _SPACE:
            self._position += 1

    def _skip_of(self, allowed: bytes) -> int:
        """Skip bytes that are allowed; return how many there were."""
        start = self._position
        while self._position < self._size and self._data[self._position] in allowed:
            self._position += 1
        return self._position - start

    def _read_separator(self) -> bool:
        """Read what is between members, or the end; return whether it is one of them."""
        while self._peek() == _SPACE or self._peek() == _TAB:
            self._position += 1
        if self._position == self._size:
            return True
        if self._data[self._position] != _COMMA:
            return False
        self._position += 1
        while self._peek() == _SPACE or self._peek() == _TAB:
            self._position += 1
        # Nothing may trail a comma.
        return self._position < self._size

    def _read_key(self) -> bool:
        """Read a key (section 4.2.3.3)."""
        if self._position == self._size or self._data[self._position] not in _KEY_START:
            return False
        self._skip_of(_KEY)
        return True

    def _read_member(self) -> int:
        """Read a member's value and its parameters; return its kind, -1 if malformed."""
        kind = _BOOLEAN
        self._value = 1
        if self._peek() == _EQUALS:
            self._position += 1
            kind = self._read_inner_list() if self._peek() == _OPEN else self._read_item()
        if kind < 0:
            return -1
        value = self._value
        if not self._read_parameters():
            return -1
        self._value = value
        return kind

    def _read_parameters(self) -> bool:
        """Read parameters, which mean nothing here (section 4.2.3.2)."""
        while self._peek() == _SEMICOLON:
            self._position += 1
            self._skip_spaces()
            if not self._read_key():
                return False
            if self._peek() == _EQUALS:
                self._position += 1
                if self._read_item() < 0:
                    return False
        return True

    def _read_inner_list(self) -> int:
        """Read an inner list (section 4.2.1.2)."""
        self._position += 1
        while True:
            self._skip_spaces()
            if self._peek() == _CLOSE:
                self._position += 1
                return _OTHER
            if self._read_item() < 0 or not self._read_parameters():
                return -1
            if self._peek() != _SPACE and self._peek() != _CLOSE:
                return -1

    def _read_item(self) -> int:
        """Read a bare item (section 4.2.3.1); return its kind, -1 if malformed."""
        first = self._peek()
        if first < 0:
            return -1
        if first == _MINUS or first in _DIGITS:
            return self._read_number()
        if first in _TOKEN_START:
            self._skip_of(_TOKEN)
            return _OTHER
        if first == _QUOTE:
            return self._read_string()
        self._position += 1
        if first == _QUESTION:
            self._value = self._peek() - _ZERO
            self._position += 1
            return _BOOLEAN if 0 <= self._value <= _ONE - _ZERO else -1
        if first != _COLON:
            return -1
        self._skip_of(_BASE64)
        if self._peek() != _COLON:
            return -1
        self._position += 1
        return _OTHER

    def _read_number(self) -> int:
        """Read an integer or a decimal (section 4.2.4)."""
        negative = self._peek() == _MINUS
        if negative:
            self._position += 1
        start = self._position
        digits = self._skip_of(_DIGITS)
        if not 0 < digits <= INTEGER_MAX_DIGITS:
            return -1
        if self._peek() == _DOT:
            self._position += 1
            fraction = self._skip_of(_DIGITS)
            if digits > DECIMAL_MAX_DIGITS or not 0 < fraction <= FRACTION_MAX_DIGITS:
                return -1
            return _OTHER
        value = 0
        for index in range(start, self._position):
            value = 10 * value + self._data[index] - _ZERO
        self._value = -value if negative else value
        return _INTEGER

    def _read_string(self) -> int:
        """Read a string (section 4.2.5)."""
        self._position += 1
        while self._position < self._size:
            byte = self._data[self._position]
            self._position += 1
            if byte == _QUOTE:
                return _OTHER
            if byte == _BACKSLASH:
                escaped = self._peek()
                if escaped != _QUOTE and escaped != _BACKSLASH:
                    return -1
                self._position += 1
            elif byte < _SPACE or byte >= _DELETE:
                return -1
        return -1
