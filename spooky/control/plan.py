"""What it would take, and mean, to put another configuration in force: a plan, made without I/O."""

import datetime
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from msgspec import Struct, structs

from spooky.config.difference import Change, ChangeKind, difference
from spooky.config.files import describe_files
from spooky.config.inventory import ObjectKind, inventory_of_listeners
from spooky.config.schema import Configuration
from spooky.control.effects import OUTCOMES, Effect, Reach
from spooky.control.hazard_rules import Side, find_hazards
from spooky.control.hazards import Hazard
from spooky.control.overrides import OverriddenSetting
from spooky.generation.identities import PoolIdentity, pool_identities
from spooky.generation.materials import Materials, named_files


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A configuration with the content of the files that it names.

    Attributes:
        configuration: The configuration.
        materials: The files; of one that is missing, its path stands for its content.
        generation: Number of the generation, if it is or was in force.
        overrides: What of it is not as its file says.
        private_files: Files that workers do not see; digests in place of secrets.
    """

    configuration: Configuration
    materials: Materials
    generation: int | None = None
    overrides: tuple[OverriddenSetting, ...] = ()
    private_files: Mapping[str, bytes] = field(default_factory=dict)


class PlannedChange(Change, frozen=True, kw_only=True):
    """A difference, and what it takes.

    Attributes:
        effect: How it comes into force.
        reach: What notices it.
    """

    effect: Effect
    reach: Reach


class Pool(Struct, frozen=True, order=True):
    """The connections to a backend.

    Attributes:
        upstream: The upstream.
        backend: The backend's id.
        origin: Where they lead.
        protocol: What the upstream speaks: ``auto``, ``http1``, ``http2`` or ``http3``.
    """

    upstream: str
    backend: str
    origin: str
    protocol: str


class Held(Struct, frozen=True):
    """What holds connections.

    Attributes:
        listeners: Addresses whose client connections these are.
        pools: Connections to backends.
    """

    listeners: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """What a candidate would change.

    Attributes:
        version: Of this form.
        generation: Number of the generation that it was compared with, if that has one.
        back_to: Number of the generation that the candidate is again, if it is one.
        changes: Every difference, in the order of kinds, names and schema; empty if there is none.
        kept: Connections that go on as if nothing happened.
        drained: Connections that finish what is in flight and are closed.
        drain_seconds: How long what drains has until it is cut; ``None`` where nothing drains.
        hazards: What deserves a second look.
        overrides: What was set at run time and stays, in place of what the file says.
        settled: What was set at run time and ends: the file says the same, or it is taken back.
    """

    version: Literal[1] = 1
    generation: int | None = None
    back_to: int | None = None
    changes: tuple[PlannedChange, ...] = ()
    kept: Held = Held()
    drained: Held = Held()
    drain_seconds: float | None = None
    hazards: tuple[Hazard, ...] = ()
    overrides: tuple[OverriddenSetting, ...] = ()
    settled: tuple[OverriddenSetting, ...] = ()

    @property
    def effect(self) -> Effect | None:
        """The least gentle effect of any change; ``None`` without changes."""
        order = list(Effect)
        return max((change.effect for change in self.changes), key=order.index, default=None)


class PlanError(Exception):
    """A text is no plan, or one in a form that is not known here; says why."""


def plan(running: Snapshot, candidate: Snapshot, now: datetime.datetime) -> Plan:
    """Return what it takes to go from one configuration to another.

    Arguments:
        running: What is in force; valid.
        candidate: What would be; valid.
        now: The time that certificates are held against, with a time zone.
    """
    old, new = _side(running), _side(candidate)
    changes = difference(old.configuration, new.configuration, old.files, new.files)
    pools, listeners = _pools(running), _listeners(running)
    kept_identities = set(_pools(candidate).values())
    drained = {name for name, identity in pools.items() if identity not in kept_identities}
    planned = tuple(_planned(change, drained) for change in changes)
    gone = listeners - _listeners(candidate)
    effects = {change.effect for change in planned}
    if Effect.ROLLING in effects:
        drained, gone = set(pools), listeners
    drains = bool(effects - {Effect.LIVE} or drained or gone)
    bound = new.configuration.performance.shutdown_drain_timeout_ms / 1000
    return Plan(
        generation=running.generation,
        back_to=candidate.generation,
        changes=planned,
        kept=_held(pools, pools.keys() - drained, listeners - gone),
        drained=_held(pools, drained, gone),
        drain_seconds=bound if drains else None,
        hazards=find_hazards(old, new, changes, now),
        overrides=candidate.overrides,
        settled=_settled(running.overrides, candidate.overrides),
    )


def _settled(
    before: tuple[OverriddenSetting, ...], after: tuple[OverriddenSetting, ...]
) -> tuple[OverriddenSetting, ...]:
    kept = {(one.object, one.key) for one in after}
    return tuple(one for one in before if (one.object, one.key) not in kept)


def encode(plan: Plan) -> bytes:
    """Return a plan as JSON."""
    return msgspec.json.encode(plan)


def decode(data: bytes | str) -> Plan:
    """Return the plan that :func:`encode` wrote.

    Raises:
        PlanError: It is none.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise PlanError(f"this is no plan of version 1: {error}") from error


_DECODER: Final = msgspec.json.Decoder(Plan)


# --- changes ----------------------------------------------------------------------------------
_GOES: Final[Mapping[ObjectKind, tuple[Effect, Reach]]] = {
    ObjectKind.LISTENER: (Effect.DRAINS, Reach.CLIENT_CONNECTIONS),
    ObjectKind.CERTIFICATE: (Effect.LIVE, Reach.CLIENT_CONNECTIONS),
    ObjectKind.ROUTE: (Effect.LIVE, Reach.REQUESTS),
    ObjectKind.UPSTREAM: (Effect.DRAINS, Reach.REQUESTS),
    ObjectKind.BACKEND: (Effect.DRAINS, Reach.REQUESTS),
}
"""What it takes to remove an object, or to lead a route elsewhere; to add one is live."""


def _planned(change: Change, drained: set[tuple[str, str]]) -> PlannedChange:
    if not change.key or change.object.kind is ObjectKind.ROUTE:
        effect, reach = _GOES[change.object.kind]
        if change.kind is ChangeKind.ADDED:
            effect = Effect.LIVE
    else:
        outcome = OUTCOMES[change.path]
        effect, reach = outcome.effect, outcome.reach
        if effect is Effect.DRAINS and not _drains(change, drained):
            # TLS to backends that are reached without it, for instance.
            effect = Effect.LIVE
    return PlannedChange(**structs.asdict(change), effect=effect, reach=reach)


def _drains(change: Change, drained: set[tuple[str, str]]) -> bool:
    """Return whether a pool is given up by a change of an upstream or a backend."""
    if change.object.kind is ObjectKind.BACKEND:
        return (change.object.parent, change.object.name) in drained
    return any(upstream == change.object.name for upstream, _ in drained)


# --- connections ------------------------------------------------------------------------------
def _side(snapshot: Snapshot) -> Side:
    files = {**snapshot.materials.files, **snapshot.private_files}
    return Side(snapshot.configuration, describe_files(files))


def _pools(snapshot: Snapshot) -> dict[tuple[str, str], PoolIdentity]:
    """Return the identity of each backend's pool."""
    configuration, materials = snapshot.configuration, snapshot.materials
    missing = {path: path.encode() for path in named_files(configuration)}
    complete = Materials({**missing, **materials.files}, materials.authorities)
    return dict(pool_identities(configuration, complete))


def _listeners(snapshot: Snapshot) -> set[str]:
    found = inventory_of_listeners(snapshot.configuration)
    return {each.name for each in found if each.kind is ObjectKind.LISTENER}


def _held(
    identities: Mapping[tuple[str, str], PoolIdentity],
    pools: Set[tuple[str, str]],
    listeners: Set[str],
) -> Held:
    return Held(
        listeners=tuple(sorted(listeners)),
        pools=tuple(
            Pool(upstream, backend, str(identity.origin), identity.protocol)
            for upstream, backend in sorted(pools)
            for identity in (identities[upstream, backend],)
        ),
    )
