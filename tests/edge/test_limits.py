"""Caps and rates of client connections (attack 13)."""

from spooky._core import reasons
from spooky.edge.limits import (
    SOURCES_MAX,
    ConnectionCap,
    ConnectionRate,
    RateLimits,
    TokenBucket,
    address_text,
    source_of,
)


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.05)
    assert bucket.take(0.15)
    assert not bucket.take(0.15)


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10, burst=2, now=0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_one_source_cannot_use_up_what_all_share() -> None:
    rate = ConnectionRate(RateLimits(100, 100, 5, 5), now=0.0)
    verdicts = [rate.admit("192.0.2.1", 0.0) for _ in range(8)]
    assert verdicts == [None] * 5 + [reasons.SOURCE_CONNECTION_RATE] * 3
    assert rate.admit("192.0.2.2", 0.0) is None


def test_many_sources_together_are_held_to_the_common_rate() -> None:
    rate = ConnectionRate(RateLimits(10, 10, 5, 5), now=0.0)
    verdicts = [rate.admit(f"192.0.2.{n}", 0.0) for n in range(12)]
    assert verdicts.count(None) == 10
    assert verdicts[-1] is reasons.NEW_CONNECTION_RATE


def test_addresses_of_one_ipv6_prefix_are_one_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
    assert source_of("::ffff:192.0.2.7") == "192.0.2.7"


def test_the_table_of_sources_is_bounded() -> None:
    rate = ConnectionRate(RateLimits(1e9, 1e9, 1, 1), now=0.0)
    for number in range(SOURCES_MAX + 100):
        rate.admit(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(rate._sources) == SOURCES_MAX


def test_a_cap_counts_half_open_and_all_connections() -> None:
    cap = ConnectionCap(maximum=3, half_open_maximum=2)
    cap.opened()
    cap.opened()
    assert cap.admit() is reasons.HALF_OPEN_CAP
    cap.established()
    assert cap.admit() is None
    cap.opened()
    assert cap.admit() is reasons.CONNECTION_CAP
    cap.closed(was_established=True)
    cap.closed(was_established=False)
    cap.closed(was_established=False)
    assert (cap.active, cap.half_open) == (0, 0)


def test_mapped_addresses_are_shown_as_ipv4() -> None:
    assert address_text("::ffff:192.0.2.7") == b"192.0.2.7"
    assert address_text("192.0.2.7") == b"192.0.2.7"
    assert address_text("fe80::1%eth0") == b"fe80::1"
