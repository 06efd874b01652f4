"""What is counted of the paths of QUIC connections."""

from typing import Any, Final

from spooky.observe.counters import Counters

BYTES: Final = 1e-6
"""Seconds that stand for a byte in a histogram of bytes."""

_PACKETS: Final = {
    "packets_sent": "quic_packets_sent_total",
    "packets_received": "quic_packets_received_total",
    "packets_lost": "quic_packets_lost_total",
}
"""Which metric counts a figure."""


class QuicMeasures:
    """Counts round trips, congestion windows, packets and handshakes.

    Arguments:
        counters: The worker's slots.
    """

    def __init__(self, counters: Counters) -> None:
        self._values = counters.values
        self._handshake = counters.histogram("handshake_duration_seconds", {"transport": "quic"})
        self._agreed = counters.slot("downstream_tls_alpn_total", {"protocol": "h3"})
        self._round_trip = counters.histogram("quic_round_trip_seconds")
        self._window = counters.histogram("quic_congestion_window_bytes")
        self._packets = tuple(map(counters.slot, _PACKETS.values()))

    def established(self, seconds: float) -> None:
        """Count a handshake that took so long; QUIC carries one protocol alone."""
        self._handshake.observe(seconds)
        self._values[self._agreed] += 1

    def count(
        self, statistics: dict[str, Any], before: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """Take the figures of a connection.

        Arguments:
            statistics: Those of its session.
            before: What this returned for it the last time, zeros at first.

        Returns:
            How many packets it sent, received and lost.
        """
        self._round_trip.observe(statistics["smoothed_rtt"])
        self._window.observe(statistics["congestion_window"] * BYTES)
        sent, received, lost = (int(statistics[name]) for name in _PACKETS)
        packets = sent, received, lost
        for slot, now, then in zip(self._packets, packets, before, strict=True):
            self._values[slot] += now - then
        return packets
