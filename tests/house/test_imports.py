"""Imports point down the table of rooms, and protocols and kernels do no I/O."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path("spooky")

# A room imports only from rooms after it.
TABLE = (
    "cli",
    "bench",
    "control",
    "edge",
    "request",
    "generation",
    "policy",
    "overload",
    "upstream",
    "routing",
    "balancing",
    "runtime",
    "protocol",
    "observe",
    "config",
    "_core",
    "_version",
)

# Embedding is control without a supervisor, under the name that users import.
ROOM_OF_MODULE = {"proxy": "control"}

# Time and bytes come as arguments: what runs on them can be replayed from a seed.
IO_MODULES = {
    "asyncio",
    "multiprocessing",
    "random",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uvloop",
}

ALLOWED = {
    # aioquic's verify_mode is said with ssl's constants.
    ("spooky/protocol/quic/aioquic_session.py", "ssl"),
    # The kernel that does the system calls, on a descriptor given to it; nothing else of a protocol
    # or a kernel may import it.
    ("spooky/_core/pure/udp.py", "socket"),
}

SOURCES = [
    path
    for path in sorted(PACKAGE.rglob("*"))
    if path.suffix in {".py", ".pyi", ".pyx", ".pxd"} and path.parent != PACKAGE
] + [PACKAGE / "proxy.py"]

CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+\(?([\w.]+)|c?import[ \t]+([\w.]+))", re.M
)


def room_of(module: str) -> str:
    """Return the room of a dotted module below ``spooky``."""
    name = module.split(".")[1]
    return ROOM_OF_MODULE.get(name, name)


def qualified(origin: str, name: str) -> str:
    """Return the module that ``from origin import name`` is about."""
    return f"spooky.{name}" if origin == "spooky" else origin


def python_imports(source: str) -> Iterator[str]:
    """Yield every module that Python source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            for alias in node.names:
                yield (
                    f"{node.module}.{alias.name}" if node.module == "spooky" else node.module or ""
                )


def cython_imports(source: str) -> Iterator[str]:
    """Yield every module that Cython source imports or cimports."""
    for origin, name, plain in CYTHON_IMPORT.findall(source):
        yield plain or qualified(origin, name)


def imports(path: Path) -> set[str]:
    """Return what a source file imports."""
    read = cython_imports if path.suffix in {".pyx", ".pxd"} else python_imports
    return set(read(path.read_text()))


def upward(path: Path, imported: set[str]) -> list[str]:
    """Return the imports of a file that do not point down the table."""
    room = room_of(".".join(path.with_suffix("").parts))
    below = TABLE[TABLE.index(room) + 1 :]
    return sorted(
        module
        for module in imported
        if module == "spooky"
        or (module.startswith("spooky.") and room_of(module) not in (room, *below))
    )


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_the_table(path: Path) -> None:
    assert upward(path, imports(path)) == []


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.parts[1] in ("protocol", "_core")], ids=str
)
def test_protocols_and_kernels_do_no_io(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    assert {root for root in roots & IO_MODULES if (str(path), root) not in ALLOWED} == set()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("spooky/config/schema.py", "from spooky.edge.worker import Worker"),
        ("spooky/config/schema.py", "def late():\n    from spooky import request"),
        ("spooky/protocol/stream.py", "import spooky.runtime.runtime as runtime"),
        ("spooky/_core/pure/routes.py", "import spooky"),
        ("spooky/_core/routes.pyx", "from spooky.observe.counters cimport Counters"),
        ("spooky/_core/routes.pyx", "    cimport spooky.config"),
    ],
)
def test_an_import_that_points_up_is_found(path: str, source: str) -> None:
    read = cython_imports if path.endswith(".pyx") else python_imports
    assert len(upward(Path(path), set(read(source)))) == 1


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[:2] != "__"}
    assert rooms <= set(TABLE)
