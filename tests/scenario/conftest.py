"""Every scenario runs for each pair of a client's and a server's engine."""

import itertools

import pytest

from spooky.protocol.quic.engines import ENGINES, Engine
from tests.scenario.endpoints import Engines

PAIRS = list(itertools.product(ENGINES.values(), repeat=2))


def skip_unless_it_has_what(request: pytest.FixtureRequest, *engines: Engine) -> None:
    """Skip a scenario marked as one that needs what an engine lacks, with the engine's reason.

    Both sides need the features, unless the mark says ``of="either"``, ``of="client"`` or
    ``of="server"``.
    """
    for mark in request.node.iter_markers("needs"):
        who = mark.kwargs.get("of")
        asked = {"client": engines[:1], "server": engines[-1:]}.get(who, engines)
        for feature in mark.args:
            lacking = [engine for engine in asked if feature in engine.lacks]
            enough = len(lacking) < len(asked) and who == "either"
            if lacking and not enough:
                pytest.skip(f"needs {feature.value}: {lacking[0].lacks[feature]}")


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].name}-to-{pair[1].name}")
def engines(request: pytest.FixtureRequest) -> Engines:
    """The engine of the client and that of the server."""
    pair: Engines = request.param
    skip_unless_it_has_what(request, *pair)
    return pair


@pytest.fixture(params=ENGINES.values(), ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine under test, where the other side is made by hand."""
    under_test: Engine = request.param
    skip_unless_it_has_what(request, under_test)
    return under_test
