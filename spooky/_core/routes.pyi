"""Which upstream serves a request: hosts, path prefixes and methods."""

from collections.abc import Iterable

class Rule:
    """One route.

    Arguments:
        name: The upstream's name.
        host: Exact host, or ``*.`` and a suffix, which stands for one label or more; ``None``
            matches every host. Case, port and trailing dots do not matter.
        path_prefix: Matched on segment boundaries; ``None`` means ``/``, which matches
            everything. Trailing slashes do not matter: ``/api/`` is ``/api``.
        method: ``None`` matches every method; lowercase is taken for uppercase.
        target: What a lookup returns.

    Raises:
        ValueError: The host or the path prefix could not match any request.
    """

    name: str
    host: bytes | None
    path_prefix: bytes
    method: bytes | None
    target: object

    def __init__(
        self,
        name: str,
        host: bytes | None,
        path_prefix: bytes | None,
        method: bytes | None,
        target: object,
    ) -> None: ...
    @property
    def is_wildcard(self) -> bool:
        """Whether the host is ``*.`` and a suffix."""
    @property
    def segments(self) -> list[bytes]:
        """What stands between the slashes of the path prefix."""

class RouteConflict(ValueError):  # noqa: N818 - a conflict says more than an error
    """Two rules match exactly the same requests.

    Attributes:
        first: Name of one rule.
        second: Name of the other.
    """

    first: str
    second: str

class Explanation:
    """Why a lookup chose its rule.

    Attributes:
        rule: The rule chosen, or ``None``.
        decided_by: ``only_match``, ``path_length``, ``host_specific``, ``exact_host``,
            ``wildcard_length``, ``method_specific`` or ``no_match``: what set the chosen rule
            apart from the next best.
        candidates: Every rule that matched, best first.
    """

    rule: Rule | None
    decided_by: str
    candidates: list[Rule]

class RouteTable:
    """An index of rules; declaration order is irrelevant.

    Arguments:
        rules: The first of them; others are added one by one, before the table is asked.

    Raises:
        RouteConflict: Two rules have the same host, path prefix and method.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None: ...
    def __len__(self) -> int: ...
    def add(self, rule: Rule) -> None:
        """Add a rule.

        Raises:
            RouteConflict: One is there with the same host, path prefix and method.
        """

    def lookup(self, host: bytes, path: bytes, method: bytes) -> object | None:
        """Return the target of the best rule, or ``None``.

        Arguments:
            host: Normalised: lowercase, no port, no trailing dot (``Request.host``).
            path: Canonical, without query (``Request.path``).
        """

    def explain(self, host: bytes, path: bytes, method: bytes) -> Explanation:
        """Return the choice with its reason; for people, not for the hot path."""
