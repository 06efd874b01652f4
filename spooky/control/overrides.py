"""What operators set at run time, against what the file says: states and weights of backends."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, structs

from spooky.config.inventory import Object, ObjectKind, Value
from spooky.config.schema import WEIGHT_MAX, Backend, Configuration, Upstream

State: TypeAlias = Literal["enabled", "drained", "disabled"]
Weight: TypeAlias = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]


class Override(Struct, frozen=True, kw_only=True):
    """What was set of one backend; the rest is as the file says.

    Attributes:
        upstream: Its upstream.
        backend: Its id.
        state: Its state; ``None`` if the file's counts.
        weight: Its weight, likewise.
    """

    upstream: str
    backend: str
    state: State | None = None
    weight: Weight | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it sets nothing."""
        return self.state is None and self.weight is None

    def applied(self, backend: Backend) -> Backend:
        """Return the backend as this sets it."""
        return structs.replace(
            backend,
            state=backend.state if self.state is None else self.state,
            weight=backend.weight if self.weight is None else self.weight,
        )

    def against(self, backend: Backend) -> "Override":
        """Return what of this differs from what the file says."""
        return structs.replace(
            self,
            state=None if self.state == backend.state else self.state,
            weight=None if self.weight == backend.weight else self.weight,
        )


Overrides: TypeAlias = tuple[Override, ...]


class OverriddenSetting(Struct, frozen=True):
    """One setting that is not as the file says.

    Attributes:
        object: The backend.
        key: The setting.
        file: What the file says.
        value: What is in force instead.
    """

    object: Object
    key: str
    file: Value
    value: Value


def find_backend(configuration: Configuration, upstream: str, backend: str) -> Backend | None:
    """Return a backend, or ``None`` if there is none of this name."""
    found = configuration.upstream.get(upstream)
    backends = found.backends if found is not None else ()
    return next((each for each in backends if each.id == backend), None)


def merge(overrides: Overrides, new: Override) -> Overrides:
    """Return the overrides with what one more sets; the rest of the same backend's stays."""
    old = next((each for each in overrides if _place(each) == _place(new)), None)
    if old is not None:
        new = structs.replace(
            old,
            state=old.state if new.state is None else new.state,
            weight=old.weight if new.weight is None else new.weight,
        )
    return (*without(overrides, new.upstream, new.backend), new)


def without(overrides: Overrides, upstream: str, backend: str) -> Overrides:
    """Return the overrides but for those of one backend."""
    return tuple(each for each in overrides if _place(each) != (upstream, backend))


def remaining(written: Configuration, overrides: Iterable[Override]) -> Overrides:
    """Return what of the overrides a file does not say itself, in the order of their names.

    Those of backends that the file does not have any more are left out as well.
    """
    left = []
    for each in overrides:
        backend = find_backend(written, each.upstream, each.backend)
        if backend is not None and not (differing := each.against(backend)).is_empty:
            left.append(differing)
    return tuple(sorted(left, key=_place))


def override(written: Configuration, overrides: Sequence[Override]) -> Configuration:
    """Return what a file says, overridden."""
    if not overrides:
        return written
    by_place = {_place(each): each for each in overrides}

    def overridden(name: str, upstream: Upstream) -> Upstream:
        backends = (
            by_place[name, each.id].applied(each) if (name, each.id) in by_place else each
            for each in upstream.backends
        )
        return structs.replace(upstream, backends=tuple(backends))

    touched = {each.upstream for each in overrides}
    upstreams = {
        name: overridden(name, upstream) if name in touched else upstream
        for name, upstream in written.upstream.items()
    }
    return structs.replace(written, upstream=upstreams)


def overridden_settings(
    written: Configuration, overrides: Iterable[Override]
) -> Iterator[OverriddenSetting]:
    """Yield each setting that is not as the file says."""
    for each in overrides:
        backend = find_backend(written, each.upstream, each.backend)
        if backend is None:
            continue
        place = Object(ObjectKind.BACKEND, each.upstream, each.backend)
        if each.state is not None:
            yield OverriddenSetting(place, "state", backend.state, each.state)
        if each.weight is not None:
            yield OverriddenSetting(place, "weight", backend.weight, each.weight)


def _place(override: Override) -> tuple[str, str]:
    return override.upstream, override.backend
