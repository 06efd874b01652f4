"""Letting an exchange in: its places under the limits on requests in flight, and its backend."""

from spooky._core import reasons
from spooky._core.balance import hash_key
from spooky._core.reasons import Reason
from spooky._core.validate import Request
from spooky.generation.generation import Backend, RequestPolicy, Upstream
from spooky.overload.gate import Gate
from spooky.request.client import Client


class Refusal:
    """Why an exchange was not let in.

    Attributes:
        reason: Why.
        gate: Where the limit was reached, if waiting may help; else ``None``.
        limit: The limit.
    """

    __slots__ = ("gate", "limit", "reason")

    def __init__(self, reason: Reason, gate: Gate | None, limit: int = 0) -> None:
        self.reason = reason
        self.gate = gate
        self.limit = limit


class Admission:
    """An exchange's places in flight; leave each exactly once.

    Attributes:
        upstream: Where it was let in.
        index: Position of its backend in ``upstream.backends``.
    """

    __slots__ = ("_global", "_open", "index", "upstream")

    def __init__(self, global_gate: Gate, upstream: Upstream, index: int) -> None:
        self._global = global_gate
        self.upstream = upstream
        self.index = index
        self._open = True

    @property
    def backend(self) -> Backend:
        """The backend that was chosen."""
        return self.upstream.backends[self.index]

    def leave(self, latency_ms: float) -> None:
        """Give the places up; idempotent.

        Arguments:
            latency_ms: Time to the response head; negative if there is none to learn from.
        """
        if not self._open:
            return
        self._open = False
        self.upstream.balancer.finished(self.index, latency_ms)
        self.backend.gate.leave()
        self.upstream.gate.leave()
        self._global.leave()


def admit(
    policy: RequestPolicy, upstream: Upstream, request: Request, client: Client
) -> Admission | Refusal:
    """Choose a backend and take a place under every limit, or none at all.

    A backend at its limit is passed over once for another.
    """
    global_gate = policy.gate
    if not global_gate.try_enter(policy.inflight_limit):
        return Refusal(reasons.GLOBAL_INFLIGHT, global_gate, policy.inflight_limit)
    if not upstream.gate.try_enter(upstream.inflight_limit):
        global_gate.leave()
        return Refusal(reasons.UPSTREAM_INFLIGHT, upstream.gate, upstream.inflight_limit)
    key = 0
    if upstream.key_source is not None:
        key = hash_key(upstream.key_source.extract(request, client.address, client.connection_id))
    balancer = upstream.balancer
    index = balancer.pick(key)
    if index >= 0 and not _try_enter(upstream.backends[index]):
        full = upstream.backends[index]
        index = balancer.pick_other(key, index)
        if index < 0 or not _try_enter(upstream.backends[index]):
            upstream.gate.leave()
            global_gate.leave()
            return Refusal(reasons.BACKEND_INFLIGHT, full.gate, full.inflight_limit)
    if index < 0:
        upstream.gate.leave()
        global_gate.leave()
        return Refusal(reasons.NO_BACKEND, None)
    balancer.started(index)
    return Admission(global_gate, upstream, index)


def _try_enter(backend: Backend) -> bool:
    return backend.gate.try_enter(backend.inflight_limit)
