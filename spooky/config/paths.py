"""Path prefixes as operators write them."""

from spooky._core.reasons import Reason
from spooky._core.validate import HTTP_2, Limits, validate_request
from spooky.config.problems import InvalidValueError, quoted


def canonical_path_prefix(prefix: str) -> str:
    """Return a path prefix in the form in which request paths are compared with it.

    Raises:
        InvalidValueError: No request that passes validation has such a path.
    """
    if not prefix.startswith("/"):
        raise InvalidValueError("a path starts with a slash", f"write {quoted('/' + prefix)}")
    if "?" in prefix or "#" in prefix:
        raise InvalidValueError(
            "queries and fragments are not matched", "give the path alone, up to the ? or #"
        )
    encoded = "".join(c if "!" <= c <= "~" else _percent_encoded(c) for c in prefix)
    if encoded != prefix:
        raise InvalidValueError(
            "spaces and letters outside ASCII come percent-encoded", f"write {quoted(encoded)}"
        )
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x")]
    outcome = validate_request([*head, (b":path", prefix.encode())], HTTP_2, Limits())
    if isinstance(outcome, Reason):
        raise InvalidValueError(f"a request with such a path is refused: {outcome.text}")
    return outcome.path.decode()


def _percent_encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
