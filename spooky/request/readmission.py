"""Letting a request in once more: at another backend, or after a while at one that failed."""

from collections.abc import Collection, Iterator

from spooky._core import reasons
from spooky._core.admission import (
    Admission,
    AdmissionStage,
    PassedOver,
    Refusal,
    Upstream,
    pass_over,
    refusal_of,
)
from spooky._core.balance import Balancer, hash_key
from spooky._core.terms import Client
from spooky._core.validate import Request


def has_another(upstream: Upstream, failed: Collection[int]) -> bool:
    """Tell whether there is a backend in the choice that did not fail this request."""
    balancer = upstream.balancer
    return any(
        index not in failed and balancer.is_eligible(index) for index in range(len(balancer))
    )


def admit_again(
    upstream: Upstream,
    request: Request,
    client: Client,
    failed: Collection[int],
    returns: bool,
    now: float,
) -> Admission | Refusal:
    """Pass every stage of admission and choose a backend, or take no place at all.

    Arguments:
        upstream: Where the request's route leads.
        request: The request.
        client: Whose it is.
        failed: Positions of backends not to be chosen.
        returns: Whether one of those will do if there is no other.
        now: Seconds on the clock of admission.

    Returns:
        A refusal if a stage refused it, or no backend has room.
    """
    entered: list[AdmissionStage] = []
    for stage in upstream.stages:
        if not stage.enter(request, now):
            refusal = Refusal(stage.reason, stage)
            _withdraw(entered)
            return refusal
        entered.append(stage)
    key = 0
    if upstream.key_source is not None:
        key = hash_key(upstream.key_source.extract(request, client.address, client.connection_id))
    passed: list[PassedOver] = []
    for index in _candidates(upstream.balancer, key, failed, returns):
        stage = upstream.backends[index].stage
        if stage.enter(request, now):
            upstream.balancer.started(index)
            admission = Admission(upstream, index, stage.ticket)
            admission.passed = passed or None
            return admission
        pass_over(passed, index, stage)
    _withdraw(entered)
    return refusal_of(passed) if passed else Refusal(reasons.NO_BACKEND, None)


def _candidates(
    balancer: Balancer, key: int, failed: Collection[int], returns: bool
) -> Iterator[int]:
    """Yield backends, those that the balancer prefers first, then the less busy."""
    preferred = balancer.pick(key)
    if preferred >= 0 and preferred in failed:
        preferred = balancer.pick_other(key, preferred)
    if preferred >= 0 and preferred not in failed:
        yield preferred
    others = [index for index in range(len(balancer)) if balancer.is_eligible(index)]
    others.sort(key=balancer.active)
    for index in others:
        if index not in failed and index != preferred:
            yield index
    if returns:
        yield from (index for index in others if index in failed)


def _withdraw(passed: list[AdmissionStage]) -> None:
    """Give the places at stages up, the last one first."""
    for stage in reversed(passed):
        stage.withdraw()
