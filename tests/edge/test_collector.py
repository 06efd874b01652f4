"""What is over is freed at once: the collector is asked rarely, and would keep it for long."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from spooky import _core
from spooky._core import reasons
from tests.edge.test_handshake_floods import established
from tests.edge.test_ingress import run_with
from tests.support.proxy import Setup


@pytest.mark.skipif(not _core.COMPILED, reason="aioquic's connections are cyclic in themselves")
def test_a_connection_that_is_over_is_freed_without_the_collector(tmp_path: Path) -> None:
    async def scenario(setup: Setup) -> None:
        listener, connection = await established(setup)
        parts = [weakref.ref(each) for each in (connection, connection._quic)]
        # Compiled, it has no room for weak references; others may be left of other tests.
        session, kind = id(connection._http3), type(connection._http3)
        gc.disable()
        try:
            connection.terminate(reasons.DRAIN_TIMEOUT)
            del connection
            while listener.active:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert [part() for part in parts] == [None, None]
            assert not any(id(each) == session and type(each) is kind for each in gc.get_objects())
        finally:
            gc.enable()

    run_with(tmp_path, scenario)
