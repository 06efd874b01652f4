"""From YAML text, or a Python mapping, to nodes with places.

YAML is read through its event stream and with limits: composing recursively, as PyYAML does, lets a
deeply nested document overflow the C stack, and aliases of aliases multiply without bound.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import yaml
from msgspec import Struct
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from spooky.config.positions import Place
from spooky.config.problems import Path
from spooky.config.report import Report

MAX_DOCUMENT_BYTES: Final = 16 << 20  # some 50,000 upstreams
MAX_NODES: Final = 1_000_000  # likewise, aliases counted as what they stand for
MAX_DEPTH: Final = 32  # the schema is 8 deep

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG_PREFIX: Final = "tag:yaml.org,2002:"


class Scalar(Struct):
    """A single value.

    Attributes:
        kind: What YAML 1.1 takes it for: ``str``, ``int``, ``float``, ``bool``, ``null``,
            ``timestamp``, ``merge``, ``value``; or a tag that is none of YAML's own.
        text: As written, quotes and escapes resolved.
        plain: Written without quotes.
        place: Where it starts.
        size: Always 1.
    """

    kind: str
    text: str
    plain: bool
    place: Place | None
    size: int = 1


class Items(Struct):
    """A list.

    Attributes:
        items: Its nodes.
        place: Where it starts.
        size: Nodes in it, itself included, aliases counted as what they stand for.
    """

    items: list["Node"]
    place: Place | None
    size: int = 1


class Entries(Struct):
    """A mapping.

    Attributes:
        entries: Its keys and values, in their order, repeated keys included.
        place: Where it starts.
        size: As for ``Items``.
    """

    entries: list[tuple["Node", "Node"]]
    place: Place | None
    size: int = 1


Node: TypeAlias = Scalar | Items | Entries


class _Mark(Protocol):
    """A place as either of PyYAML's parsers has it."""

    line: int
    column: int


class _DocumentError(Exception):
    """The document cannot be read any further."""

    def __init__(self, message: str, remedy: str, mark: _Mark | None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.place = _place(mark)


def decode(data: bytes, report: Report) -> str | None:
    """Return the text of a file, or ``None`` after reporting why it has none."""
    if len(data) > MAX_DOCUMENT_BYTES:
        report.broken((), f"the file is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        report.broken((), "a byte is not UTF-8", "save the file as UTF-8", _place_after(before))
        return None
    return text


def read_yaml(text: str, report: Report) -> Node | None:
    """Return the root of a YAML document, or ``None`` after reporting why it has none."""
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable is not None:
        report.broken(
            (),
            f"the character {unprintable.group()!a} is not allowed in YAML",
            "remove it, or write it as an escape in double quotes",
            _place_after(text[: unprintable.start()]),
        )
        return None
    try:
        root = _Composer(text).compose()
    except _DocumentError as error:
        report.broken((), error.message, error.remedy, error.place)
        return None
    except yaml.MarkedYAMLError as error:
        report.broken(
            (),
            f"this is not valid YAML: {error.problem}{_context(error)}",
            _syntax_remedy(error, text),
            _place(error.problem_mark or error.context_mark),
        )
        return None
    if root is None or (isinstance(root, Scalar) and root.kind == "null"):
        report.broken(
            (), "the file is empty", "`spooky init` writes one to start from", Place(1, 1)
        )
        return None
    return root


class _Open:
    """A list or mapping whose end has not come."""

    def __init__(self, node: Items | Entries, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Node | None = None

    def add(self, child: Node) -> None:
        self.node.size += child.size
        if isinstance(self.node, Items):
            self.node.items.append(child)
        elif self.key is None:
            self.key = child
        else:
            self.node.entries.append((self.key, child))
            self.key = None


class _Composer:
    """Makes nodes of the events of one document."""

    def __init__(self, text: str) -> None:
        self._loader = _Loader(text)
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None
        self._count = 0
        # What YAML takes plain texts for: most stand there many times.
        self._kinds: dict[str, str] = {}

    def compose(self) -> Node | None:
        try:
            while (event := self._loader.get_event()) is not None:
                take = self._TAKES.get(type(event))
                if take is not None:
                    take(self, event)
        finally:
            self._loader.dispose()
        return self._root

    def _take_document(self, event: DocumentStartEvent) -> None:
        if self._root is not None:
            raise _DocumentError(
                "a second document starts here", "keep one document in a file", event.start_mark
            )

    def _take_alias(self, event: AliasEvent) -> None:
        node = self._aliased(event)
        self._add(node, event, None, node.size)

    def _take_scalar(self, event: ScalarEvent) -> None:
        text: str = event.value
        kind = self._kinds.get(text) if event.tag is None and event.implicit[0] else None
        if kind is None:
            kind = _kind(self._loader, event)
            if event.tag is None and event.implicit[0]:
                self._kinds[text] = kind
        scalar = Scalar(kind, text, not event.style, _place(event.start_mark))
        self._add(scalar, event, event.anchor, 1)

    def _take_items(self, event: SequenceStartEvent) -> None:
        self._begin(Items([], _place(event.start_mark)), event)

    def _take_entries(self, event: MappingStartEvent) -> None:
        self._begin(Entries([], _place(event.start_mark)), event)

    def _begin(self, node: Items | Entries, event: CollectionStartEvent) -> None:
        self._open.append(_Open(node, event.anchor))
        if len(self._open) > MAX_DEPTH:
            raise _DocumentError(
                f"lists and mappings are nested more than {MAX_DEPTH} deep",
                "no setting is nested so deeply",
                event.start_mark,
            )

    def _take_end(self, event: CollectionEndEvent) -> None:
        closed = self._open.pop()
        # Its children were counted when they were added.
        self._add(closed.node, event, closed.anchor, 1)

    def _add(self, node: Node, event: Event, anchor: str | None, count: int) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise _DocumentError(
                f"the document has more than {MAX_NODES:,} values, aliases counted as what they "
                "stand for",
                "",
                event.start_mark,
            )
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].add(node)
        else:
            self._root = node

    def _aliased(self, event: AliasEvent) -> Node:
        if any(opened.anchor == event.anchor for opened in self._open):
            raise _DocumentError(
                f"the alias *{event.anchor} stands inside what it stands for", "", event.start_mark
            )
        if event.anchor not in self._anchors:
            raise _DocumentError(
                f"the alias *{event.anchor} has no anchor before it",
                f"mark a value with &{event.anchor}, or put the text in quotes",
                event.start_mark,
            )
        return self._anchors[event.anchor]

    # Of the class: bound methods would make a cycle of each document, and all its nodes and the
    # parser's buffers would wait for the collector.
    _TAKES: Final[Mapping[type[Event], Callable[["_Composer", Any], None]]] = {
        DocumentStartEvent: _take_document,
        AliasEvent: _take_alias,
        ScalarEvent: _take_scalar,
        SequenceStartEvent: _take_items,
        MappingStartEvent: _take_entries,
        SequenceEndEvent: _take_end,
        MappingEndEvent: _take_end,
    }


def _kind(loader: yaml.SafeLoader, event: ScalarEvent) -> str:
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
    return str(tag).removeprefix(_TAG_PREFIX)


def _place(mark: _Mark | None) -> Place | None:
    return None if mark is None else Place(mark.line + 1, mark.column + 1)


def _place_after(text: str) -> Place:
    """Return the place of the character that follows a text."""
    lines = f"{text}.".splitlines()
    return Place(len(lines), len(lines[-1]))


def _context(error: yaml.MarkedYAMLError) -> str:
    """Return what was being read, and where that begins: a quote is missed only much later."""
    if not error.context:
        return ""
    begun, found = error.context_mark, error.problem_mark
    if begun is None or found is None or begun.line == found.line:
        return f" ({error.context})"
    return f" ({error.context}, which begins on line {begun.line + 1})"


def _syntax_remedy(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what most often mends a syntax error, or nothing."""
    mark = error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces: YAML does not allow tabs"
    if "mapping values are not allowed" in (error.problem or ""):
        return 'put the text in quotes if it has ": " in it; else check the indentation'
    # libyaml finds the fault after a star or an ampersand that begins no name.
    here = line[mark.column :][:1] if mark is not None else ""
    if any(c in "*&%@`" for c in here + _begun(error, line)):
        return "put a text that starts with this character in quotes"
    return "check the indentation, brackets and quotes here and on the line above"


def _begun(error: yaml.MarkedYAMLError, line: str) -> str:
    """Return the character at which what was being read begins, if it is on the same line."""
    begun, found = error.context_mark, error.problem_mark
    if begun is None or found is None or begun.line != found.line:
        return ""
    return line[begun.column :][:1]


def from_python(value: object, report: Report) -> Node:
    """Return the node of a Python value: mappings, sequences, paths and scalars."""
    return _python_node(value, (), report)


def _python_node(value: object, path: Path, report: Report) -> Node:
    if len(path) > MAX_DEPTH:
        report.broken(path, f"mappings and lists are nested more than {MAX_DEPTH} deep")
        return Scalar("null", "", True, None)
    match value:
        case None:
            return Scalar("null", "", True, None)
        case bool():
            return Scalar("bool", str(value).lower(), True, None)
        case int():
            # Python refuses to write thousands of digits in decimal; no such number is in range.
            text = str(value) if value.bit_length() <= 128 else hex(value)
            return Scalar("int", text, True, None)
        case float():
            return Scalar("float", repr(value), True, None)
        case str():
            return Scalar("str", str(value), False, None)
        case os.PathLike():
            return Scalar("str", os.fsdecode(value), False, None)
        case Mapping():
            return Entries(
                [
                    (_python_key(key), _python_node(item, (*path, str(key)), report))
                    for key, item in value.items()
                ],
                None,
            )
        case Sequence() if not isinstance(value, bytes | bytearray):
            return Items(
                [_python_node(item, (*path, i), report) for i, item in enumerate(value)], None
            )
    return Scalar(f"a Python {type(value).__name__}", "", True, None)


def _python_key(key: object) -> Scalar:
    return Scalar("str" if isinstance(key, str) else type(key).__name__, str(key), False, None)
