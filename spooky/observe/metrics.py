"""What is measured: the table of metrics that counters, the exposition and its page read."""

from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: As counters name it; exposed with the prefix ``spooky_``.
        kind: How it behaves.
        help: What it tells, in one sentence.
        unit: What a histogram's second stands for, of the unit that its name says.
    """

    name: str
    kind: Kind
    help: str
    unit: float = 1.0


class Fact(NamedTuple):
    """A number that no worker counts.

    Attributes:
        name: Of the metric, without prefix.
        help: What it tells.
        value: The number.
        labels: What it is about.
        kind: How it behaves.
    """

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    kind: Kind = Kind.GAUGE


PREFIX: Final = "spooky_"
"""Of every exposed name."""

OVERFLOW: Final = "metrics_overflow_total"
"""Counts what has no place of its own any more."""

TABLE: Final = (
    Metric("requests_total", Kind.COUNTER, "Requests that ended, by how."),
    Metric("requests_active", Kind.GAUGE, "Requests in flight."),
    Metric(
        "request_duration_seconds",
        Kind.HISTOGRAM,
        "Time from a request's head to the end of its response.",
    ),
    Metric(
        "upstream_connect_seconds",
        Kind.HISTOGRAM,
        "Time from a request's head until a backend's connection took it.",
    ),
    Metric(
        "upstream_first_byte_seconds",
        Kind.HISTOGRAM,
        "Time from a request's head to the head of its response.",
    ),
    Metric(
        "upstream_retries_total",
        Kind.COUNTER,
        "Tries that followed a failed one, by why that failed and what became of them.",
    ),
    Metric(
        "retry_budget_exhausted_total",
        Kind.COUNTER,
        "Retries and hedges that were not made as the budget was spent.",
    ),
    Metric(
        "hedges_total",
        Kind.COUNTER,
        "Requests to a second backend beside a slow one, by what became of them.",
    ),
    Metric(
        "retry_denied_total",
        Kind.COUNTER,
        "Failures after which no other try was made, by the rule that forbids it.",
    ),
    Metric(
        "hedge_primary_late_seconds",
        Kind.HISTOGRAM,
        "How long after a second backend was asked the first answered, where it was sooner.",
    ),
    Metric(
        "inflight_wait_admit_total",
        Kind.COUNTER,
        "Requests that waited for a place in flight and found one, by where.",
    ),
    Metric(
        "backend_circuit_changes_total",
        Kind.COUNTER,
        "Times that the circuit breaker of a backend became open, half-open or closed.",
    ),
    Metric(
        "requests_with_dropped_fields_total",
        Kind.COUNTER,
        "Requests of which fields were left out for an underscore in their name.",
    ),
    Metric("request_body_bytes_total", Kind.COUNTER, "Bytes of request bodies from clients."),
    Metric("response_body_bytes_total", Kind.COUNTER, "Bytes of response bodies to clients."),
    Metric("connections_total", Kind.COUNTER, "Client connections taken, by transport."),
    Metric("connections_active", Kind.GAUGE, "Client connections open, by transport."),
    Metric(
        "connections_refused_total",
        Kind.COUNTER,
        "Client connections refused or failed in their handshake, and packets of none, by why.",
    ),
    Metric(
        "connections_closed_total",
        Kind.COUNTER,
        "Client connections closed after their handshake as their client broke a rule or a limit, "
        "by transport and why.",
    ),
    Metric(
        "handshakes_failed_total",
        Kind.COUNTER,
        "Client connections that ended before their handshake was complete, by transport.",
    ),
    Metric(
        "handshake_duration_seconds",
        Kind.HISTOGRAM,
        "Time from a client connection's begin to the end of its handshake, by transport.",
    ),
    Metric(
        "quic_round_trip_seconds",
        Kind.HISTOGRAM,
        "Smoothed round trip times of client connections, at their end and now and then before.",
    ),
    Metric(
        "quic_congestion_window_bytes",
        Kind.HISTOGRAM,
        "Congestion windows of client connections, at their end and now and then before.",
        1e6,
    ),
    Metric(
        "downstream_tls_alpn_total",
        Kind.COUNTER,
        "Handshakes of clients that were complete, by the protocol agreed on.",
    ),
    Metric("quic_packets_sent_total", Kind.COUNTER, "QUIC packets sent to clients."),
    Metric("quic_packets_received_total", Kind.COUNTER, "QUIC packets received from clients."),
    Metric(
        "quic_packets_lost_total",
        Kind.COUNTER,
        "QUIC packets to clients that were declared lost; on the native engine.",
    ),
    Metric(
        "quic_packets_dropped_total",
        Kind.COUNTER,
        "QUIC packets to connections that were dropped, by why; on the native engine.",
    ),
    Metric(
        "early_data_total",
        Kind.COUNTER,
        "Handshakes of clients that offered 0-RTT data, by whether it was taken.",
    ),
    Metric("glitches_total", Kind.COUNTER, "Oddities of clients, by transport."),
    Metric(
        "glitch_consequences_total",
        Kind.COUNTER,
        "Connections that were told to end, or closed, for their oddities or their source's.",
    ),
    Metric(
        "quic_retry_active",
        Kind.GAUGE,
        "Listeners of workers at which new clients have to prove their address because of a flood.",
    ),
    Metric(
        "address_tokens_accepted_total",
        Kind.COUNTER,
        "Client connections whose address a token proved, by how it was given.",
    ),
    Metric(
        "stateless_resets_sent_total",
        Kind.COUNTER,
        "Packets answered with a stateless reset, as they belonged to no connection.",
    ),
    Metric("datagrams_received_total", Kind.COUNTER, "UDP datagrams that reached a connection."),
    Metric("datagrams_sent_total", Kind.COUNTER, "UDP datagrams sent."),
    Metric("datagrams_unsendable_total", Kind.COUNTER, "UDP datagrams that could not be sent."),
    Metric(
        "datagram_batches_received_total",
        Kind.COUNTER,
        "Times the kernel gave several UDP datagrams as one (UDP_GRO).",
    ),
    Metric(
        "datagram_batches_sent_total",
        Kind.COUNTER,
        "Times the kernel took several UDP datagrams as one (UDP_SEGMENT).",
    ),
    Metric(
        "datagrams_truncated_total",
        Kind.COUNTER,
        "Received UDP datagrams dropped because they came incomplete.",
    ),
    Metric(
        "datagrams_handed_over_total",
        Kind.COUNTER,
        "UDP datagrams handed to the worker they were for.",
    ),
    Metric(
        "datagrams_handover_dropped_total",
        Kind.COUNTER,
        "UDP datagrams that the worker they were for did not take.",
    ),
    Metric(
        "overload_actions_total",
        Kind.COUNTER,
        "What was done as resources were running out, by action: once for each connection or "
        "request.",
    ),
    Metric(
        "overload_actions_active",
        Kind.GAUGE,
        "Workers in which an action against overload is taken, by action.",
    ),
    Metric(OVERFLOW, Kind.COUNTER, "Events whose metric had no room left for one more label."),
)

BY_NAME: Final = {metric.name: metric for metric in TABLE}
