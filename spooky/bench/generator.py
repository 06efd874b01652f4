"""The load generator, a process of its own: ``python -m spooky.bench.generator``.

Reads a plan from stdin and writes lines of JSON to stdout: progress, and at the end the result.
"""

import gc
import os
import random
import sys
import time
from typing import Final

import msgspec

from spooky.bench import processes
from spooky.bench.connecting import H3_NO_ERROR, Connecting, Entrance
from spooky.bench.counting import CountingClient, Request, Tally
from spooky.bench.plan import Failed, Finished, Kind, LoadPlan, LoadResult, Progress, RequestPlan
from spooky.bench.requesting import Requesting
from spooky.bench.slow import SlowReaders
from spooky.bench.wire import Loop, Wire

HANDSHAKE_SECONDS: Final = 20.0
"""Time for all connections of a load to be established; seconds."""

SETTLE_SECONDS: Final = 1.0
"""Quiet before memory is read, for acknowledgements to pass; seconds."""


class LoadError(Exception):
    """There is no load on this server: it does not answer, or not as it should."""


class Load:
    """One turn of load.

    Arguments:
        plan: What to do.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._loop = Loop()
        self._entrance = Entrance(plan)
        self._tally = Tally()

    @property
    def _watched(self) -> list[int]:
        """What is measured; before the server answers it may not have all its processes."""
        return processes.tree(self._plan.watched)

    def run(self) -> LoadResult:
        """Do it.

        Raises:
            LoadError: The server does not answer.
        """
        match self._plan.kind:
            case Kind.REQUESTS:
                return self._requests()
            case Kind.IDLE:
                return self._idle()
        return self._connections()

    # --- requests ---------------------------------------------------------------------------------

    def _requests(self) -> LoadResult:
        plan, loop = self._plan, self._loop
        slow = self._slow_readers()
        clients, wires = self._connect(plan.connections, closed_loop=not plan.rate)
        requesting = Requesting(loop, clients, wires, self._tally, plan.rate, slow)

        def tell(seconds: float) -> None:
            failed = sum(self._tally.errors.values())
            report(Progress(seconds, self._tally.requests, failed))
            if all(client.closed for client in clients):
                raise LoadError(f"all connections ended: {self._errors()}")

        requesting.pass_time(plan.warmup, tell)
        # From here on what follows is measured, and no longer of the load before that.
        report(Progress(0.0, 0))
        meter = Meter(self._watched)
        requesting.measure()
        requesting.pass_time(plan.seconds, tell)
        measured = msgspec.structs.replace(
            meter.read(),
            requests=self._tally.requests,
            bytes_received=self._tally.bytes_received,
            bytes_sent=self._tally.bytes_sent,
        )
        requesting.drain()
        part(clients, wires)
        errors = dict(self._tally.errors)
        if slow is not None:
            part(slow.clients, slow.wires)
            errors |= {f"slow client: {what}": n for what, n in slow.tally.errors.items()}
        if not measured.requests and (errors or not measured.bytes_received):
            raise LoadError(f"no request succeeded: {self._errors()}")
        return msgspec.structs.replace(
            measured,
            connections=len(clients),
            connections_by_slot=self._entrance.slots(wires),
            errors=errors,
            latencies=self._tally.latencies.buckets(),
        )

    def _slow_readers(self) -> SlowReaders | None:
        """Begin the slow clients, and wait until all have something to read."""
        plan, slow = self._plan, self._plan.slow
        if slow is None:
            return None
        readers = SlowReaders(
            slow, encode(plan, RequestPlan(slow.path)), self._loop, self._entrance
        )
        self._establish(readers.clients, readers.wires)
        return readers

    def _connect(
        self, connections: int, closed_loop: bool
    ) -> tuple[list[CountingClient], list[Wire]]:
        """Open connections, and wait until all are established."""
        plan = self._plan
        requests = tuple(encode(plan, request) for request in cycle(plan))
        clients, wires = [], []
        for number in range(connections):
            now = time.monotonic()
            session = self._entrance.session(now)
            first = number % len(requests)
            client = CountingClient(
                session,
                requests[first:] + requests[:first],
                self._tally,
                streams=plan.streams,
                closed_loop=closed_loop,
            )
            client.now = now
            wire = Wire(self._loop, session, client, self._entrance.address)
            wire.settle(now)
            clients.append(client)
            wires.append(wire)
        self._establish(clients, wires)
        return clients, wires

    def _establish(self, clients: list[CountingClient], wires: list[Wire]) -> None:
        """Wait until all connections are established."""
        plan = self._plan
        until = time.monotonic() + HANDSHAKE_SECONDS
        while not all(client.established for client in clients):
            late = self._loop.turn(until) >= until
            refused = next((wire.error for wire in wires if wire.error), "")
            if late or refused or all(client.closed for client in clients):
                count = sum(not client.established for client in clients)
                raise LoadError(
                    f"{count} of {len(clients)} connections to {plan.host} port {plan.port} "
                    f"were not established: {refused or self._errors()}"
                )

    def _errors(self) -> str:
        errors = self._tally.errors.items()
        return ", ".join(f"{what} ({count})" for what, count in errors) or "no answer"

    # --- connections ------------------------------------------------------------------------------

    def _connections(self) -> LoadResult:
        """Make connections, one after the other in as many lanes as the plan has connections."""
        plan = self._plan
        connecting = Connecting(self._loop, self._entrance, resume=plan.kind is Kind.RESUMPTION)
        connecting.start(plan.connections)
        if not connecting.ready(HANDSHAKE_SECONDS):
            raise LoadError(
                f"no {'resumed ' if connecting.resume else ''}connection to {plan.host} port "
                f"{plan.port} was established within {HANDSHAKE_SECONDS:g} s"
            )
        connecting.pass_time(plan.warmup, lambda seconds: None)
        connecting.reset()
        meter = Meter(self._watched)
        connecting.pass_time(
            plan.seconds, lambda seconds: report(Progress(seconds, connecting.completed))
        )
        measured = meter.read()
        if not connecting.completed:
            raise LoadError(f"no connection was established within {plan.seconds:g} s")
        return msgspec.structs.replace(
            measured,
            connections=connecting.completed,
            resumed=connecting.resumed,
            connections_by_slot=connecting.slots,
            errors=connecting.errors,
            latencies=connecting.latencies.buckets(),
        )

    def _idle(self) -> LoadResult:
        """Hold connections that do nothing, and weigh them."""
        # A server that takes packets may still be starting, and its first connection makes what
        # all share: neither is the memory of a connection.
        first, first_wire = self._connect(1, closed_loop=False)
        self._settle(SETTLE_SECONDS)
        watched = self._watched
        before = processes.resident_bytes(watched)
        clients, wires = self._connect(self._plan.connections, closed_loop=False)
        self._settle(SETTLE_SECONDS)
        growth = processes.resident_bytes(watched) - before
        meter = Meter(watched)
        self._settle(self._plan.seconds)
        measured = meter.read()
        part(first + clients, first_wire + wires)
        return msgspec.structs.replace(
            measured,
            connections=len(clients),
            connections_by_slot=self._entrance.slots(wires),
            errors=self._tally.errors,
            watched_growth_bytes=growth,
        )

    def _settle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._loop.turn(until) < until:
            pass


class Meter:
    """Measures from when it is made to when it is read."""

    def __init__(self, watched: list[int]) -> None:
        self._watched = watched
        processes.forget_peaks(watched)
        self._cpu = processes.cpu_seconds(watched)
        self._own = time.process_time()
        self._begun = time.monotonic()

    def read(self) -> LoadResult:
        """Return what was measured so far, without what was counted."""
        return LoadResult(
            seconds=time.monotonic() - self._begun,
            watched_cpu_seconds=processes.cpu_seconds(self._watched) - self._cpu,
            watched_peak_bytes=processes.peak_bytes(self._watched),
            load_cpu_seconds=time.process_time() - self._own,
        )


def part(clients: list[CountingClient], wires: list[Wire]) -> None:
    """Close every connection, so that the server need not wait for its end."""
    now = time.monotonic()
    for client, wire in zip(clients, wires, strict=True):
        client.stopping = True
        client.now = now
        client.session.close(H3_NO_ERROR, "", is_application=True)
        wire.settle(now)


def cycle(plan: LoadPlan) -> list[RequestPlan]:
    """Return the requests of a plan by their weights, shuffled by its seed."""
    requests = [request for request in plan.requests for _ in range(request.weight)]
    random.Random(plan.seed).shuffle(requests)
    return requests


def encode(plan: LoadPlan, request: RequestPlan) -> Request:
    """Return a request as it goes on the wire."""
    fields = [
        (b":method", b"POST" if request.body_size else b"GET"),
        (b":scheme", b"https"),
        (b":authority", plan.authority.encode()),
        (b":path", request.path.encode()),
        (b"user-agent", b"spooky-bench"),
    ]
    if request.body_size:
        fields.append((b"content-length", b"%d" % request.body_size))
    return Request(fields, request.body_size)


def report(line: Progress | Finished | Failed) -> None:
    """Write a line for whoever started this process."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(line) + b"\n")


def main() -> None:
    """Do what the plan on stdin says."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan)
    load = Load(plan)
    # What a collection would free is little, and it would show as latency of the proxy.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        report(Finished(load.run()))
    except (LoadError, OSError) as error:
        report(Failed(str(error)))


if __name__ == "__main__":
    main()
