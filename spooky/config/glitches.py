"""The ``resilience.protocol.glitches`` section: how odd a client may be while Spooky is pressed."""

from typing import Annotated

from msgspec import Meta

from spooky.config.fields import Count, Section, described


class Glitches(Section, frozen=True):
    """One account of oddities of a client, whichever protocol it speaks.

    An oddity is legal and useless, or broken: requests that come to nothing, frames without effect
    beyond what traffic earns, streams and connections that break the protocol. Each kind has a
    budget of its own besides, which holds at any time.
    """

    connection_budget: Annotated[
        Count | None,
        described(
            "Oddities of one connection at once. At three quarters it takes no more requests "
            "(GOAWAY), at the whole it is closed. Null for no such account.",
            hazard="Pages whose requests are cancelled by the hundred are odd too.",
        ),
    ] = 1_000
    connection_refill_per_sec: Annotated[
        Count, described("How many of them are forgotten in a second.", unit="oddities/s")
    ] = 33
    source_budget: Annotated[
        Count | None,
        described(
            "The same for all connections of one source: an IPv4 address or an IPv6 /64. Of a "
            "trusted proxy's clients only as its PROXY header says: connections of a proxy that "
            "says it in a field have no such account. Connections that are odd then end, and new "
            "ones are refused from three quarters on. Null for no such account.",
            hazard="Clients behind one address translator are one source.",
        ),
    ] = 10_000
    source_refill_per_sec: Annotated[
        Count, described("How many of them are forgotten in a second.", unit="oddities/s")
    ] = 330
    min_pressure_percent: Annotated[
        int,
        Meta(ge=0, le=100),
        described(
            "From which lag of the event loop on accounts have consequences, in percent of "
            "`resilience.overload.event_loop_max_lag_ms`; always while any action against overload "
            "is taken. 0 for at any time."
        ),
    ] = 50
