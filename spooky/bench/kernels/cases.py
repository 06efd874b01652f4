"""All cases, by kernel."""

from typing import Final

from spooky.bench.kernels import (
    balance,
    crypto,
    decisions,
    exchange,
    fields,
    gate,
    h2,
    h3,
    outcomes,
    packets,
    priority,
    qpack,
    recovery,
    routes,
    shared,
    timers,
    udp,
    validate,
)

CASES: Final = (
    *validate.CASES,
    *fields.CASES,
    *qpack.CASES,
    *h2.CASES,
    *h3.CASES,
    *packets.CASES,
    *priority.CASES,
    *routes.CASES,
    *balance.CASES,
    *timers.CASES,
    *shared.CASES,
    *decisions.CASES,
    *outcomes.CASES,
    *gate.CASES,
    *exchange.CASES,
    *udp.CASES,
    *crypto.CASES,
    *recovery.CASES,
)
