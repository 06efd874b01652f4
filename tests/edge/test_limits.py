"""Caps and rates of client connections (attack 13)."""

import mmap

import pytest

from spooky._core import reasons
from spooky._core.arrivals import source_of
from spooky._core.shared import Segment, segment_size
from spooky.edge.limits import (
    ConnectionCap,
    ConnectionRate,
    RateLimits,
    address_text,
)
from spooky.observe.counters import Counters
from spooky.observe.segment import private_segment


def test_one_source_cannot_use_up_what_all_share() -> None:
    rate = ConnectionRate(RateLimits(100, 100, 5, 5), private_segment())
    verdicts = [rate.admit("192.0.2.1", 0.0) for _ in range(8)]
    assert verdicts == [None] * 5 + [reasons.SOURCE_CONNECTION_RATE] * 3
    assert rate.admit("192.0.2.2", 0.0) is None


def test_many_sources_together_are_held_to_the_common_rate() -> None:
    rate = ConnectionRate(RateLimits(10, 10, 5, 5), private_segment())
    verdicts = [rate.admit(f"192.0.2.{n}", 0.0) for n in range(12)]
    assert verdicts.count(None) == 10
    assert verdicts[-1] is reasons.NEW_CONNECTION_RATE


def test_addresses_of_one_ipv6_prefix_are_one_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("::ffff:192.0.2.7") == "192.0.2.7"


def test_whoever_has_a_prefix_of_ipv6_is_one_source_for_all_its_addresses() -> None:
    """Both in the rate of connections and in that of stateless resets (RFC 6177)."""
    rate = ConnectionRate(RateLimits(100, 100, 5, 5), private_segment())
    verdicts = [rate.admit(f"2001:db8:1:2:{n:x}::{n:x}", 0.0) for n in range(1, 9)]
    assert verdicts == [None] * 5 + [reasons.SOURCE_CONNECTION_RATE] * 3
    assert rate.admit("2001:db8:1:3::1", 0.0) is None


def test_limits_and_rates_are_for_all_workers_together() -> None:
    segment = Segment(mmap.mmap(-1, segment_size(2)), 2)
    workers = [Counters(segment, worker) for worker in range(2)]
    rates = [ConnectionRate(RateLimits(10, 10, 5, 5), segment) for _ in workers]
    verdicts = [rates[n % 2].admit("192.0.2.1", 1.0) for n in range(8)]
    assert verdicts == [None] * 5 + [reasons.SOURCE_CONNECTION_RATE] * 3
    verdicts = [rates[n % 2].admit(f"192.0.2.{n + 2}", 1.0) for n in range(6)]
    assert verdicts == [None] * 5 + [reasons.NEW_CONNECTION_RATE]
    one, other = [ConnectionCap(counters, "tcp", 3, 2) for counters in workers]
    assert one.open() is None
    one.established()
    assert other.open() is None
    assert other.open() is None
    assert one.open() is reasons.CONNECTION_CAP
    assert (one.active, other.active) == (1, 2)
    assert ConnectionCap(workers[0], "quic", 1, 1).open() is None
    # Worker 1 dies.
    segment.reclaim(1)
    assert [one.open(), one.open(), one.open()] == [None, None, reasons.CONNECTION_CAP]


@pytest.mark.parametrize(("per_second", "burst"), [(1, 2**53), (1e9, 1), (2**53, 2**53)])
def test_extreme_rates_do_not_overflow(per_second: float, burst: float) -> None:
    rate = ConnectionRate(RateLimits(per_second, burst, per_second, burst), private_segment())
    verdicts = [rate.admit("192.0.2.1", 1e6) for _ in range(3)]
    assert verdicts[0] is None
    assert (verdicts[2] is None) == (burst > 1)


def test_a_cap_counts_half_open_and_all_connections() -> None:
    counters = Counters()
    cap = ConnectionCap(counters, "quic", maximum=3, half_open_maximum=2)
    assert cap.open() is None
    assert cap.open() is None
    assert cap.open() is reasons.HALF_OPEN_CAP
    cap.established()
    assert cap.open() is None
    cap.established()
    assert cap.open() is reasons.CONNECTION_CAP
    gauge = counters.slot("connections_active", {"transport": "quic"})
    assert counters.values[gauge] == 3
    cap.closed(was_established=True)
    cap.closed(was_established=True)
    cap.closed(was_established=False)
    assert (cap.active, cap.half_open) == (0, 0)
    assert counters.values[gauge] == 0
    assert [cap.open(), cap.open()] == [None, None]


def test_without_a_cap_half_open_connections_have_no_end() -> None:
    """Attack 13."""

    def opened(half_open_maximum: int) -> int:
        cap = ConnectionCap(Counters(), "quic", 10**9, half_open_maximum)
        return sum(cap.open() is None for _ in range(2_000))

    assert opened(500) == 500
    assert opened(10**9) == 2_000


def test_a_cap_that_a_change_lowers_takes_nobody_until_enough_have_gone() -> None:
    cap = ConnectionCap(Counters(), "tcp", maximum=3, half_open_maximum=3)
    assert [cap.open(), cap.open(), cap.open()] == [None, None, None]
    cap.maximum, cap.half_open_maximum = 2, 1
    assert cap.open() is reasons.CONNECTION_CAP
    cap.established()
    cap.closed(was_established=True)
    assert cap.open() is reasons.CONNECTION_CAP
    cap.closed(was_established=False)
    # There is a place, but not for another handshake beside the one under way.
    assert cap.open() is reasons.HALF_OPEN_CAP
    cap.established()
    # Nothing that was refused has taken a place, and every place was given back.
    assert [cap.open(), cap.open()] == [None, reasons.CONNECTION_CAP]
    cap.closed(was_established=False)
    cap.closed(was_established=True)
    assert (cap.active, cap.half_open, cap.share) == (0, 0, 0.0)


def test_mapped_addresses_are_shown_as_ipv4() -> None:
    assert address_text("::ffff:192.0.2.7") == b"192.0.2.7"
    assert address_text("192.0.2.7") == b"192.0.2.7"
    assert address_text("fe80::1%eth0") == b"fe80::1"
