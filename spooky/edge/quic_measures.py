"""What is counted of the paths of QUIC connections."""

from typing import Final

from spooky._core import reasons
from spooky._core.client_connection import Measures
from spooky.observe.counters import Counters, reason_labels

DROPPED: Final = (
    reasons.BAD_PACKET,
    reasons.UNKNOWN_CONNECTION,
    reasons.UNSUPPORTED_VERSION,
    reasons.FORGED_PACKET,
    reasons.UNDECRYPTABLE_PACKET,
)
"""Why sessions drop packets, in the order in which they tell how many."""


def quic_measures(counters: Counters) -> Measures:
    """Return what counts the figures of a worker's connections.

    Arguments:
        counters: The worker's slots.
    """
    return Measures(
        counters.values,
        counters.histogram("handshake_duration_seconds", {"transport": "quic"}),
        counters.slot("downstream_tls_alpn_total", {"protocol": "h3"}),
        counters.histogram("quic_round_trip_seconds"),
        counters.histogram("quic_congestion_window_bytes"),
        (
            counters.slot("quic_packets_sent_total"),
            counters.slot("quic_packets_received_total"),
            counters.slot("quic_packets_lost_total"),
        ),
        tuple(
            counters.slot("quic_packets_dropped_total", reason_labels(reason)) for reason in DROPPED
        ),
    )
