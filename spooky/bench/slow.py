"""Clients that read slowly: each asks for a large response and takes a little of it at a time."""

import time
from typing import Final

from spooky.bench.connecting import Entrance
from spooky.bench.counting import CountingClient, Request, Tally
from spooky.bench.plan import SlowPlan
from spooky.bench.wire import Loop, Wire

READ_SECONDS: Final = 0.05
"""How often they read."""


class SlowReaders:
    """All slow clients of a load.

    Arguments:
        plan: How many there are, and how slow.
        request: What each asks for.
        loop: Waits for their datagrams.
        entrance: Makes their sessions.

    Attributes:
        clients: Of each connection.
        wires: Of each connection.
        tally: What came of their requests, apart from those of the others.
        next_at: When they read again.
    """

    def __init__(self, plan: SlowPlan, request: Request, loop: Loop, entrance: Entrance) -> None:
        self.clients: list[CountingClient] = []
        self.wires: list[Wire] = []
        self.tally = Tally()
        self._bytes_per_read = max(int(plan.bytes_per_second * READ_SECONDS), 1)
        parameters = entrance.parameters(stream_window=plan.window, connection_window=plan.window)
        for _ in range(plan.connections):
            now = time.monotonic()
            session = entrance.session(now, parameters)
            client = CountingClient(
                session, (request,), self.tally, streams=1, closed_loop=True, slow=True
            )
            client.now = now
            wire = Wire(loop, session, client, entrance.address)
            wire.settle(now)
            self.clients.append(client)
            self.wires.append(wire)
        self.next_at = time.monotonic() + READ_SECONDS

    def read(self, now: float) -> None:
        """Let each read what it can by now."""
        if now < self.next_at:
            return
        self.next_at = now + READ_SECONDS
        for client, wire in zip(self.clients, self.wires, strict=True):
            client.now = now
            client.read(self._bytes_per_read)
            wire.settle(now)
