"""Which upstream serves a request: hosts, path prefixes and methods.

The rules, their errors and explanations are the same objects in both builds; only the table is
compiled. A path is matched raw: its segments are what stands between slashes, so ``//`` holds an
empty segment and ``%2F`` is no separator.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_PORT: Final = re.compile(rb":[0-9]*\Z")
_HOST: Final = re.compile(
    rb"(\*\.)?[^][:/?#@*.\s]+(\.[^][:/?#@*.\s]+)*"  # A name or an IPv4 address.
    rb"|\[[0-9a-f:.]+\]"  # An IPv6 address.
)
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986 section 2.3


class RouteConflict(ValueError):  # noqa: N818 - a conflict says more than an error
    """Two rules match exactly the same requests.

    Attributes:
        first: Name of one rule.
        second: Name of the other.
    """

    __slots__ = ("first", "second")

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second} have the same host, path prefix and method")
        self.first = first
        self.second = second


@dataclass(frozen=True, slots=True, init=False, eq=False)
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
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "host", None if host is None else _normalise_host(host))
        put(self, "path_prefix", b"/" if path_prefix is None else _normalise_path(path_prefix))
        put(self, "method", (method or b"").strip().upper() or None)
        put(self, "target", target)

    @property
    def is_wildcard(self) -> bool:
        """Whether the host is ``*.`` and a suffix."""
        return self.host is not None and self.host.startswith(b"*.")

    @property
    def segments(self) -> list[bytes]:
        """What stands between the slashes of the path prefix."""
        return [] if self.path_prefix == b"/" else self.path_prefix.split(b"/")[1:]


_CRITERIA: Final = (
    "path_length", "host_specific", "exact_host", "wildcard_length", "method_specific"
)  # fmt: skip


def _precedence(rule: Rule) -> tuple[int, bool, bool, int, bool]:
    """Return what decides between rules that match one request, in the order of ``_CRITERIA``.

    Rules equal in all of it have the same host, path prefix and method, which a table refuses.
    """
    return (
        len(rule.path_prefix),
        rule.host is not None,
        not rule.is_wildcard,
        len(rule.host or b""),
        rule.method is not None,
    )


@dataclass(frozen=True, slots=True)
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

    @classmethod
    def of(cls, matching: list[Rule]) -> "Explanation":
        """Rank the rules that match a request."""
        ranked = sorted(matching, key=_precedence, reverse=True)
        if not ranked:
            return cls(None, "no_match", ranked)
        if len(ranked) == 1:
            return cls(ranked[0], "only_match", ranked)
        best, next_best = _precedence(ranked[0]), _precedence(ranked[1])
        differing = (i for i in range(len(_CRITERIA)) if best[i] != next_best[i])
        return cls(ranked[0], _CRITERIA[next(differing)], ranked)


class _Segments:
    """A node of a trie of path segments: the rules that end here, by method."""

    __slots__ = ("children", "rules")

    def __init__(self) -> None:
        self.children: dict[bytes, _Segments] = {}
        self.rules: dict[bytes | None, Rule] = {}


class _Labels:
    """A node of a trie of host labels from the right: the paths of the wildcard that ends here."""

    __slots__ = ("children", "paths")

    def __init__(self) -> None:
        self.children: dict[bytes, _Labels] = {}
        self.paths: _Segments | None = None


class RouteTable:
    """An index of rules; declaration order is irrelevant.

    Arguments:
        rules: The first of them; others are added one by one, before the table is asked.

    Raises:
        RouteConflict: Two rules have the same host, path prefix and method.
    """

    __slots__ = ("_any_host", "_hosts", "_length", "_wildcards")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._length = 0
        self._hosts: dict[bytes, _Segments] = {}
        self._wildcards = _Labels()
        self._any_host = _Segments()
        for rule in rules:
            self.add(rule)

    def __len__(self) -> int:
        return self._length

    def add(self, rule: Rule) -> None:
        """Add a rule.

        Raises:
            RouteConflict: One is there with the same host, path prefix and method.
        """
        node = self._paths_of(rule)
        for segment in rule.segments:
            node = node.children.setdefault(segment, _Segments())
        if rule.method in node.rules:
            raise RouteConflict(node.rules[rule.method].name, rule.name)
        node.rules[rule.method] = rule
        self._length += 1

    def lookup(self, host: bytes, path: bytes, method: bytes) -> object | None:
        """Return the target of the best rule, or ``None``.

        Arguments:
            host: Normalised: lowercase, no port, no trailing dot (``Request.host``).
            path: Canonical, without query (``Request.path``).
        """
        best = max(self._matching(host, path, method), key=_precedence, default=None)
        return None if best is None else best.target

    def explain(self, host: bytes, path: bytes, method: bytes) -> Explanation:
        """Return the choice with its reason; for people, not for the hot path."""
        return Explanation.of(list(self._matching(host, path, method)))

    def _paths_of(self, rule: Rule) -> _Segments:
        """Return the root of the paths of the rule's host."""
        if rule.host is None:
            return self._any_host
        if not rule.is_wildcard:
            return self._hosts.setdefault(rule.host, _Segments())
        labels = self._wildcards
        for label in reversed(rule.host.split(b".")[1:]):
            labels = labels.children.setdefault(label, _Labels())
        if labels.paths is None:
            labels.paths = _Segments()
        return labels.paths

    def _matching(self, host: bytes, path: bytes, method: bytes) -> Iterator[Rule]:
        """Yield every rule that matches."""
        segments = path.split(b"/")
        for node in self._roots(host):
            found: _Segments | None = node
            depth = 0
            while found is not None:
                for key in (method, None):
                    if key in found.rules:
                        yield found.rules[key]
                depth += 1
                if depth == len(segments) or segments[0]:
                    break
                found = found.children.get(segments[depth])

    def _roots(self, host: bytes) -> Iterator[_Segments]:
        """Yield the paths of every host, wildcard or exact, that matches."""
        yield self._any_host
        labels = self._wildcards
        end = len(host)
        while (dot := host.rfind(b".", 0, end)) > 0:
            child = labels.children.get(host[dot + 1 : end])
            if child is None:
                break
            labels, end = child, dot
            if labels.paths is not None:
                yield labels.paths
        if host in self._hosts:
            yield self._hosts[host]


def _normalise_host(host: bytes) -> bytes:
    host = host.strip().lower()
    name = _PORT.sub(b"", host).rstrip(b".")
    if _HOST.fullmatch(name) is None:
        shown = host.decode(errors="replace")
        raise ValueError(f"host {shown!r} is no name, '*.' and a name, or address (IPv6 in [])")
    return name


def _normalise_path(prefix: bytes) -> bytes:
    """Return a path prefix as canonical paths are, without slashes at the end."""
    shown = prefix.decode(errors="replace")
    if not prefix.startswith(b"/"):
        raise ValueError(f"path prefix {shown!r} does not begin with '/'")
    if b"?" in prefix or b"#" in prefix:
        raise ValueError(f"path prefix {shown!r} holds a query or fragment; only paths are matched")
    path = _ESCAPE.sub(_decode_unreserved, prefix).rstrip(b"/")
    if not {b".", b".."}.isdisjoint(path.split(b"/")):
        raise ValueError(f"path prefix {shown!r} holds a dot segment; such requests are refused")
    return path or b"/"


def _decode_unreserved(escape: re.Match[bytes]) -> bytes:
    byte = int(escape[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else escape[0]
