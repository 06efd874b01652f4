"""Which backends of an upstream are not in the choice, and why, for who asks about a request."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from spooky._core import reasons
from spooky._core.balance import Balancer
from spooky._core.reasons import Reason
from spooky._core.shared import Segment
from spooky.observe.decisions import EXCLUDED_DRAINED, EXCLUDED_EJECTED, EXCLUDED_FAILING
from spooky.upstream.health import BackendHealth

EXCLUDED_MAX: Final = 16
"""So many backends are told of: more would cost every request while they are out."""


class Excluded(NamedTuple):
    """A backend that is not in the choice, and why; ``code`` is one of ``EXCLUDED_...``."""

    id: str
    reason: Reason
    code: float


class ExcludedBackends:
    """Looks at an upstream when the choice or the health of a backend changed, and no sooner.

    Arguments:
        segment: Where health is known.
        balancer: Knows who is in the choice.
        backends: Names and health, by position.
    """

    __slots__ = ("_backends", "_balancer", "_found", "_seen", "_segment")

    def __init__(
        self, segment: Segment, balancer: Balancer, backends: Sequence[tuple[str, BackendHealth]]
    ) -> None:
        self._segment = segment
        self._balancer = balancer
        self._backends = backends
        self._seen: tuple[int, int] | None = None
        self._found: tuple[Excluded, ...] = ()

    def look(self) -> tuple[Excluded, ...]:
        """Return the backends that are out, the first of them if they are many."""
        version = self._segment.health_version, self._balancer.version()
        if version != self._seen:
            self._found = tuple(self._look())
            self._seen = version
        return self._found

    def _look(self) -> Iterator[Excluded]:
        left = min(EXCLUDED_MAX, self._balancer.excluded())
        for position, (name, health) in enumerate(self._backends):
            if not left:
                return
            if not self._balancer.is_eligible(position):
                left -= 1
                yield _excluded(name, health)


def _excluded(name: str, health: BackendHealth) -> Excluded:
    ejected_for = health.ejected_for
    if ejected_for is not None:
        return Excluded(name, ejected_for, float(EXCLUDED_EJECTED))
    code = EXCLUDED_FAILING if health.is_failing else EXCLUDED_DRAINED
    return Excluded(name, reasons.NO_BACKEND, float(code))
