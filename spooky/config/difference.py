"""The difference between two configurations: by the objects they describe, not by their lines."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct, structs

from spooky.config.inventory import (
    NO_FILES,
    Files,
    Inventory,
    Object,
    ObjectKind,
    Row,
    Rows,
    Value,
    inventory,
    schema_leaves,
)
from spooky.config.schema import Configuration, UpstreamRoute

SECRET: Final = "(secret)"
"""What is shown of a secret."""


class ChangeKind(StrEnum):
    """What became of an object, or of one of its settings."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Setting(Struct, frozen=True):
    """A setting of an object that is added or removed.

    Attributes:
        key: Its key in the object.
        value: Its value; :data:`SECRET` for a secret.
    """

    key: str
    value: Value


class Change(Struct, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        kind: What became of the object, or of its setting.
        object: The object.
        key: The setting, by its key in the object; empty if the object itself came or went.
        path: The setting in the schema, as in ``upstream.<name>.backends[].weight``; empty with
            ``key``.
        old: The setting's value before; :data:`SECRET` for a secret.
        new: Its value after, likewise.
        settings: What an object that came or went has set, defaults left out.
    """

    kind: ChangeKind
    object: Object
    key: str = ""
    path: str = ""
    old: Value = None
    new: Value = None
    settings: tuple[Setting, ...] = ()


def difference(
    old: Configuration,
    new: Configuration,
    old_files: Files = NO_FILES,
    new_files: Files = NO_FILES,
) -> tuple[Change, ...]:
    """Return what differs between two configurations, in the order of kinds, names and schema.

    Arguments:
        old: What was.
        new: What will be.
        old_files: Facts of the files that ``old`` names. The content of a file is compared if both
            sides know it.
        new_files: Likewise for ``new``.
    """
    if old_files == new_files:
        old, new = _without_the_same(old, new)
    return difference_of(inventory(old, old_files), inventory(new, new_files))


def _without_the_same(
    old: Configuration, new: Configuration
) -> tuple[Configuration, Configuration]:
    """Leave out upstreams and routes that say the same on both sides.

    So a difference costs what differs, not what there is.
    """
    same_upstreams: set[str] = set()
    same_routes: set[UpstreamRoute] = set()
    if (
        old.load_balancing == new.load_balancing
        and old.upstream_tls == new.upstream_tls
        and old.resilience == new.resilience
    ):
        same_routes = {*old.routes} & {*new.routes}
        same_upstreams = {
            name for name, upstream in old.upstream.items() if new.upstream.get(name) == upstream
        }
    old, new = (
        structs.replace(
            side,
            upstream={k: v for k, v in side.upstream.items() if k not in same_upstreams},
            routes=tuple(route for route in side.routes if route not in same_routes),
        )
        for side in (old, new)
    )
    return old, new


def difference_of(old: Inventory, new: Inventory) -> tuple[Change, ...]:
    """Return what differs between two inventories, as :func:`difference` does."""
    changes: list[Change] = []
    for each in sorted({*old, *new}, key=_order):
        if each not in old:
            changes.append(_whole(ChangeKind.ADDED, each, new[each]))
        elif each not in new:
            changes.append(_whole(ChangeKind.REMOVED, each, old[each]))
        elif old[each] != new[each]:
            changes += _compare(each, old[each], new[each])
    return tuple(changes)


def _whole(kind: ChangeKind, each: Object, rows: Rows) -> Change:
    settings = (Setting(key, _shown(row)) for key, row in _in_schema_order(rows) if not row.default)
    return Change(kind=kind, object=each, settings=tuple(settings))


def _compare(each: Object, old: Rows, new: Rows) -> Iterator[Change]:
    for key, row in _in_schema_order({**old, **new}):
        before, after = old.get(key), new.get(key)
        if before is not None and after is not None:
            if before.value != after.value:
                yield _change(ChangeKind.CHANGED, each, key, before, after)
        elif row.content or row.value is None:
            # A file that only one side can read, or what an absent section says of its own.
            continue
        elif before is None:
            yield _change(ChangeKind.ADDED, each, key, None, after)
        else:
            yield _change(ChangeKind.REMOVED, each, key, before, None)


def _change(
    kind: ChangeKind, each: Object, key: str, before: Row | None, after: Row | None
) -> Change:
    path = (after or before or Row("", None)).path
    return Change(kind=kind, object=each, key=key, path=path, old=_shown(before), new=_shown(after))


def _shown(row: Row | None) -> Value:
    if row is None or row.value is None:
        return None
    return SECRET if row.secret else row.value


_KINDS: Final = {kind: place for place, kind in enumerate(ObjectKind)}


def _order(each: Object) -> tuple[int, str, str]:
    return _KINDS[each.kind], each.parent, each.name


def _in_schema_order(rows: Rows) -> Iterable[tuple[str, Row]]:
    places = {leaf.path: place for place, leaf in enumerate(schema_leaves())}
    return sorted(rows.items(), key=lambda item: (places.get(item[1].path, -1), item[0]))
