"""What a configuration puts in force, object by object: listeners, certificates, upstreams,
backends, routes, and the settings of the whole.

Two configurations that say the same in other words have the same inventory: the order of mappings,
of backends and of listeners, what is inherited, defaults that are written out, and other spellings
of an address make no difference in it.
"""

import functools
import ipaddress
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

from msgspec import NODEFAULT, Struct, inspect, structs

from spooky._core.routes import Rule
from spooky.config.files import FileFacts
from spooky.config.hosts import parse_backend_address
from spooky.config.listener_tls import ListenerTLS
from spooky.config.problems import InvalidValueError
from spooky.config.schema import Configuration, Listener, Route, Upstream

Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None
"""What a setting can be."""

Files: TypeAlias = Mapping[str, FileFacts]
"""Facts of files by the path that the configuration names."""

GIVEN: Final = "given"
"""The value of an optional section that is there; its own settings follow."""

DEFAULT_CERTIFICATE: Final = "(default)"
"""What the certificate is called that is shown when no server name matches."""

NO_FILES: Final[Files] = {}


class ObjectKind(StrEnum):
    """What a configuration consists of, in the order in which people read it."""

    LISTENER = "listener"
    CERTIFICATE = "certificate"
    ROUTE = "route"
    UPSTREAM = "upstream"
    BACKEND = "backend"
    SETTINGS = "settings"


class Object(Struct, frozen=True, order=True):
    """The identity of one thing that a configuration describes.

    Attributes:
        kind: What it is.
        parent: The listener of a certificate, the upstream of a backend; else empty.
        name: Address and port of a listener, server name of a certificate, host, path prefix and
            method of a route, name of an upstream, id of a backend; empty for the settings.
    """

    kind: ObjectKind
    parent: str = ""
    name: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.parent, self.name) if part)


SETTINGS: Final = Object(ObjectKind.SETTINGS)
"""What belongs to none of the others."""


class Row(Struct, frozen=True):
    """One setting of an object.

    Attributes:
        path: The setting in the schema, as in ``upstream.<name>.backends[].weight``.
        value: Its value.
        secret: Whether the value must not be shown.
        default: Whether it is what it would be if nothing were said.
        content: Whether it stands for what a file holds.
    """

    path: str
    value: Value
    secret: bool = False
    default: bool = False
    content: bool = False


Rows: TypeAlias = dict[str, Row]
"""The settings of an object, by their key in it."""

Inventory: TypeAlias = dict[Object, Rows]


def inventory(configuration: Configuration, files: Files = NO_FILES) -> Inventory:
    """Return everything that a configuration puts in force.

    Arguments:
        files: Facts of the files that it names; of one that is missing, only the path counts.
    """
    found = inventory_of_listeners(configuration, files)
    for name, upstream in configuration.upstream.items():
        _add_upstream(found, configuration, name, upstream, files)
    for (name, route), rule in zip(
        configuration.all_routes(), rules_of(configuration), strict=True
    ):
        rows = rows_of(
            route, "routes[].", files, without=("host", "path_prefix", "method", "upstream")
        )
        rows["upstream"] = Row("routes[].upstream", rule.name)
        rows["priority"] = structs.replace(
            rows["priority"], value=configuration.priority_of(name, route)
        )
        found[Object(ObjectKind.ROUTE, "", route_name(rule))] = rows
    found[SETTINGS] = rows_of(
        configuration, "", files, without=("listen", "listeners", "upstream", "routes")
    )
    return found


def inventory_of_listeners(configuration: Configuration, files: Files = NO_FILES) -> Inventory:
    """Return the listeners and certificates of :func:`inventory`."""
    found: Inventory = {}
    for name, listener in listeners_by_name(configuration).items():
        _add_listener(found, name, listener, files)
    return found


def listeners_by_name(configuration: Configuration) -> dict[str, Listener]:
    """Return the listeners in force by what they are called."""
    found: dict[str, Listener] = {}
    for listener in configuration.active_listeners:
        place = listener_name(listener)
        name, count = place, 1
        while name in found:
            # Only listeners on a free port can have the same place.
            count += 1
            name = f"{place} ({count})"
        found[name] = listener
    return found


# --- objects ----------------------------------------------------------------------------------
def _add_listener(found: Inventory, name: str, listener: Listener, files: Files) -> None:
    rows = rows_of(listener, "listeners[].", files, without=("tls",))
    rows |= rows_of(
        listener.tls, "listeners[].tls.", files, "tls.", without=("cert", "key", "certificates")
    )
    found[Object(ObjectKind.LISTENER, "", name)] = rows
    _add_certificates(found, name, listener.tls, files)


def _add_certificates(found: Inventory, listener: str, tls: ListenerTLS, files: Files) -> None:
    path = "listeners[].tls.certificates[]."
    for one in tls.certificates:
        rows = _pair(path, one.cert, one.key, files)
        rows |= rows_of(one, path, files, without=("cert", "key"))
        found[Object(ObjectKind.CERTIFICATE, listener, one.server_name)] = rows
    default = tls.default_certificate()
    if default is not None:
        rows = _pair("listeners[].tls.", *default, files)
        found[Object(ObjectKind.CERTIFICATE, listener, DEFAULT_CERTIFICATE)] = rows


def _pair(path: str, cert: str, key: str, files: Files) -> Rows:
    rows: Rows = {"cert": Row(f"{path}cert", cert), "key": Row(f"{path}key", key)}
    if cert in files:
        rows |= _certificate_contents(f"{path}cert", files[cert])
    if key in files:
        rows["key.sha256"] = _content(f"{path}key", files[key].sha256, secret=True)
    return rows


def listener_name(listener: Listener) -> str:
    """Return address and port of a listener, in the one spelling of each address."""
    try:
        address = str(ipaddress.ip_address(listener.address))
    except ValueError:
        address = listener.address
    return f"[{address}]:{listener.port}" if ":" in address else f"{address}:{listener.port}"


def _certificate_contents(path: str, facts: FileFacts) -> Rows:
    """Return what tells a certificate from others at the same path."""
    if facts.certificate is None:
        return {"cert.sha256": _content(path, facts.sha256)}
    return {
        "fingerprint": _content(path, facts.certificate.fingerprint),
        "chain": _content(path, facts.certificate.chain),
    }


def _content(path: str, value: str, *, secret: bool = False) -> Row:
    return Row(path, value, secret, default=True, content=True)


_INHERITED: Final = ("load_balancing", "retry", "tls")
"""Sections of an upstream that another one stands for where they are not given."""


def _add_upstream(
    found: Inventory, configuration: Configuration, name: str, upstream: Upstream, files: Files
) -> None:
    rows = rows_of(upstream, "upstream.<name>.", files, without=("route", "backends", *_INHERITED))
    for key, section in (
        ("load_balancing", configuration.load_balancing_of(name)),
        ("retry", configuration.retry_of(name)),
        ("tls", configuration.tls_of(name)),
    ):
        rows |= rows_of(section, f"upstream.<name>.{key}.", files, f"{key}.")
    found[Object(ObjectKind.UPSTREAM, "", name)] = rows
    for backend in upstream.backends:
        rows = rows_of(backend, "upstream.<name>.backends[].", files)
        rows["address"] = structs.replace(rows["address"], value=_origin(backend.address))
        found[Object(ObjectKind.BACKEND, name, backend.id)] = rows


def _origin(address: str) -> str:
    """Return a backend's address in the one spelling of each origin."""
    try:
        return str(parse_backend_address(address))
    except InvalidValueError:
        return address


def rules_of(configuration: Configuration) -> Iterator[Rule]:
    """Yield the rules of the route table, each leading to the name of its upstream.

    Raises:
        ValueError: A route could not match any request.
    """
    for name, route in configuration.all_routes():
        yield rule_of(name, route)


def rule_of(upstream: str, route: Route) -> Rule:
    """Return the rule of a route, leading to the name of its upstream.

    Raises:
        ValueError: It could not match any request.
    """
    return Rule(
        upstream,
        route.host.encode() if route.host is not None else None,
        route.path_prefix.encode() if route.path_prefix is not None else None,
        route.method.encode() if route.method is not None else None,
        upstream,
    )


def route_name(rule: Rule) -> str:
    """Return what makes a route the same route: host, path prefix and method, for people."""
    host = (rule.host or b"*").decode()
    method = f" {rule.method.decode()}" if rule.method is not None else ""
    return f"{host}{rule.path_prefix.decode()}{method}"


# --- the schema -------------------------------------------------------------------------------
class SchemaLeaf(Struct, frozen=True):
    """One setting that the schema knows.

    Attributes:
        path: Where, as in ``upstream.<name>.backends[].weight``.
        secret: Whether its value, or the content of the file that it names, must not be shown.
        identity: Whether an object with another value is another object.
    """

    path: str
    secret: bool = False
    identity: bool = False


@functools.cache
def schema_leaves() -> tuple[SchemaLeaf, ...]:
    """Return every setting of the schema once, in its order; ``listen`` is one of ``listeners``."""
    leaves = _leaves(inspect.type_info(Configuration), "", {})
    return tuple(leaf for leaf in leaves if leaf.path.partition(".")[0] != "listen")


def _leaves(type_: inspect.Type, path: str, marks: dict[str, Any]) -> Iterator[SchemaLeaf]:
    marks = {**marks, **_marks(type_)}
    match _bare(type_):
        case inspect.StructType() as section:
            if path and _is_optional(type_):
                yield SchemaLeaf(path)
            for field in section.fields:
                yield from _leaves(field.type, f"{path}.{field.name}" if path else field.name, {})
        case inspect.DictType(value_type=value):
            yield from _leaves(value, f"{path}.<name>", marks)
        case inspect.VarTupleType(item_type=item) if isinstance(_bare(item), inspect.StructType):
            yield from _leaves(item, f"{path}[]", {})
        case _:
            yield SchemaLeaf(path, bool(marks.get("secret")), bool(marks.get("identity")))


@functools.cache
def _fields(section: type[Struct]) -> tuple[inspect.Field, ...]:
    type_ = inspect.type_info(section)
    assert isinstance(type_, inspect.StructType)
    return type_.fields


def _marks(type_: inspect.Type) -> dict[str, Any]:
    """Return what ``described`` noted at a type."""
    marks: dict[str, Any] = {}
    while isinstance(type_, inspect.Metadata):
        marks |= type_.extra or {}
        type_ = type_.type
    return marks


def _bare(type_: inspect.Type) -> inspect.Type:
    """Return a type without notes and without null."""
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    if isinstance(type_, inspect.UnionType):
        members = [one for one in type_.types if not isinstance(one, inspect.NoneType)]
        if len(members) == 1:
            return _bare(members[0])
    return type_


def _is_optional(type_: inspect.Type) -> bool:
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return isinstance(type_, inspect.UnionType) and type_.includes_none


# --- values -----------------------------------------------------------------------------------
def rows_of(
    section: Struct,
    path: str,
    files: Files = NO_FILES,
    key: str = "",
    without: tuple[str, ...] = (),
) -> Rows:
    """Return the settings of a section, what makes its identity apart.

    Arguments:
        path: What comes before its keys in the schema.
        files: Facts of the files that it may name.
        key: What comes before its keys in the object.
        without: Keys left out.
    """
    walker = _Walker(files)
    for field in _fields(type(section)):
        if field.name not in without and not _marks(field.type).get("identity"):
            walker.walk_field(section, field, key, path)
    return walker.rows


class _Walker:
    """Collects the settings of an object, led by the schema."""

    def __init__(self, files: Files) -> None:
        self.rows: Rows = {}
        self._files = files

    def walk_field(self, section: Struct, field: inspect.Field, key: str, path: str) -> None:
        """Add a field of a section; ``key`` and ``path`` are what comes before its name."""
        self._walk(
            getattr(section, field.name), field.type, f"{key}{field.name}", f"{path}{field.name}",
            _default(field),
        )  # fmt: skip

    def _walk(self, value: Any, type_: inspect.Type, key: str, path: str, default: object) -> None:
        match _bare(type_):
            case inspect.StructType() as section:
                if _is_optional(type_):
                    self.rows[key] = Row(
                        path, None if value is None else GIVEN, default=value is None
                    )
                for field in section.fields if value is not None else ():
                    self.walk_field(value, field, f"{key}.", f"{path}.")
            case inspect.DictType(value_type=item):
                for name, below in value.items():
                    self._walk(below, item, f"{key}.{name}", f"{path}.<name>", NODEFAULT)
            case inspect.VarTupleType(item_type=item) if isinstance(
                _bare(item), inspect.StructType
            ):
                for name, below in _entries(value):
                    self._walk(below, item, f"{key}[{name}]", f"{path}[]", NODEFAULT)
            case _:
                self._add(value, _marks(type_), key, path, value == default)

    def _add(
        self, value: Any, marks: dict[str, Any], key: str, path: str, is_default: bool
    ) -> None:
        secret, names_file = bool(marks.get("secret")), bool(marks.get("path"))
        if isinstance(value, tuple) and marks.get("unordered"):
            value = tuple(sorted(set(value)))
        self.rows[key] = Row(path, value, secret and not names_file, is_default)
        if names_file and value in self._files:
            self.rows[f"{key}.sha256"] = _content(path, self._files[value].sha256, secret=secret)


def _entries(sections: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the sections of a list by what tells them apart, or by their place if nothing does."""
    for place, section in enumerate(sections):
        section_type: type[Struct] = type(section)
        identity = [
            str(getattr(section, field.name))
            for field in _fields(section_type)
            if _marks(field.type).get("identity")
        ]
        yield ":".join(identity) or str(place), section


def _default(field: inspect.Field) -> object:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return field.default
