"""Route tables and look-ups: kernel against twin, and the best rule against all that match.

An input is rules and requests, one on a line: host, path and method between spaces. A line of a
rule begins with ``+``; nothing in a place stands for any.
"""

from collections.abc import Iterator
from typing import Any

from spooky._core import routes as kernel
from spooky._core.pure import routes as twin
from spooky._core.pure.routes import Rule

LINES_MAX = 60
PROBES = ((b"a.b.com", b"/a/b/c", b"GET"), (b"", b"", b""), (b"com", b"/%2F", b"POST"))


def seeds() -> Iterator[bytes]:
    """Yield tables with rules of every kind, and requests for them."""
    yield b"+ / \n * * *"
    yield b"+a.com /api GET\n+a.com /api \n+*.com /api GET\n+ /api/v1 \na.com /api/v1/x GET"
    yield b"+[::1] /a//b \n+1.2.3.4:80 / \n[::1] /a//b/c GET\n1.2.3.4 / GET"
    yield b"+*.b.com / \n+*.com / \n+ / POST\na.b.com / GET\n.b.com / GET\nb.com / POST"
    yield b"+ /%61/ GET\n+ /a GET"
    yield b"+ /a/../b \n+bad host / \n+ a \n+ /?x "
    yield b"+ /a%2Fb \n+ // \n+ //a \nx //a GET\nx /a%2Fb/c GET\nx /a/b GET"


def table(build: Any, rules: list[Rule]) -> Any:
    """Return the table, or who is in conflict."""
    try:
        return build.RouteTable(rules)
    except build.RouteConflict as conflict:
        return conflict.first, conflict.second


def run(data: bytes) -> None:
    """Make the tables, and look up every request."""
    rules: list[Rule] = []
    requests = list(PROBES)
    for line in data.split(b"\n")[:LINES_MAX]:
        host, path, method = [*line.removeprefix(b"+").split(b" "), b"", b""][:3]
        if not line.startswith(b"+"):
            requests.append((host, path, method))
            continue
        try:
            name = str(len(rules))
            rules.append(Rule(name, host or None, path or None, method or None, name))
        except ValueError:
            continue
        requests.append((rules[-1].host or b"x", rules[-1].path_prefix, method))
    ours, theirs = table(kernel, rules), table(twin, rules)
    if isinstance(theirs, tuple):
        assert ours == theirs
        return
    assert len(ours) == len(theirs) == len(rules)
    for request in requests:
        found = theirs.lookup(*request)
        assert ours.lookup(*request) == found, request
        explained, twins = ours.explain(*request), theirs.explain(*request)
        assert explained.candidates == twins.candidates
        assert explained.decided_by == twins.decided_by
        assert found == (explained.rule.target if explained.rule else None)
