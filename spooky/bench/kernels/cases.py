"""All cases, by kernel."""

from typing import Final

from spooky.bench.kernels import (
    balance,
    crypto,
    decisions,
    fields,
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
    *udp.CASES,
    *crypto.CASES,
    *recovery.CASES,
)
