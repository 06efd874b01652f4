"""What is counted of the paths of QUIC connections."""

from spooky._core.client_connection import Measures
from spooky.observe.counters import Counters


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
    )
