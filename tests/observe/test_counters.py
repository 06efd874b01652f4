"""Counters: what workers count is summed, and goes on where a dead one left it."""

import os
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from spooky._core import shared
from spooky._core.shared import Segment
from spooky.observe import counters as module
from spooky.observe.counters import CounterReader, Counters, SlotName, forget_gauges, totals
from spooky.observe.metrics import OVERFLOW, TABLE
from spooky.observe.segment import create_segment, open_segment, private_segment

SENT = SlotName("datagrams_sent_total", ())
ACTIVE = SlotName("connections_active", (("transport", "quic"),))
DURATION = SlotName("request_duration_seconds", (("upstream", "api"),))


def two_workers() -> tuple[Segment, list[Counters]]:
    segment, descriptor = create_segment(2)
    workers = [Counters(open_segment(descriptor), worker) for worker in range(2)]
    return segment, workers


def test_the_numbers_of_all_workers_are_summed_by_name_not_by_position() -> None:
    segment, (one, other) = two_workers()
    one.slot("datagrams_received_total")
    for counters, count in ((one, 3), (other, 4)):
        counters.values[counters.slot("datagrams_sent_total")] += count
        counters.histogram("request_duration_seconds", {"upstream": "api"}).observe(0.003)
    sums = totals(segment)
    assert sums[SENT] == [7]
    assert sum(sums[DURATION][: shared.BUCKET_VALUES]) == 2
    assert sums[DURATION][shared.SUM_AT] == 6_000


def test_the_order_of_labels_does_not_matter() -> None:
    counters = Counters()
    one = counters.slot("requests_total", {"upstream": "a", "backend": "b"})
    assert counters.slot("requests_total", {"backend": "b", "upstream": "a"}) == one
    assert counters.slot("requests_total", {"backend": "a", "upstream": "b"}) != one


def test_a_metric_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(KeyError, match="surprises_total"):
        Counters().slot("surprises_total")


def test_a_successor_goes_on_with_the_counters_of_the_dead_and_without_its_gauges() -> None:
    segment, (dead, other) = two_workers()
    for counters in (dead, other):
        counters.values[counters.slot("datagrams_sent_total")] += 5
        counters.values[counters.slot("connections_active", {"transport": "quic"})] += 2
    forget_gauges(segment, 0)
    successor = Counters(segment, 0)
    assert totals(segment)[SENT] == [10]
    assert totals(segment)[ACTIVE] == [2]
    successor.values[successor.slot("datagrams_sent_total")] += 1
    fresh = successor.slot("datagrams_unsendable_total")
    assert successor.values[fresh] == 0
    assert totals(segment)[SENT] == [11]


def test_what_finds_no_room_is_counted_and_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_NAMED_MAX", 131)
    counters = Counters()
    counters.slot("datagrams_sent_total")
    counters.histogram("request_duration_seconds", {"upstream": "a"}).observe(1)
    assert counters.slot(OVERFLOW) == 0
    late = [counters.slot("requests_total", {"upstream": str(n)}) for n in range(40)]
    counters.values[late[-1]] += 1
    counters.histogram("request_duration_seconds", {"upstream": "b"}).observe(1)
    sums = totals(counters.segment)
    assert sums[SENT] == [0]
    assert (
        sum(
            sums[SlotName("request_duration_seconds", (("upstream", "a"),))][: shared.BUCKET_VALUES]
        )
        == 1
    )
    assert sums[SlotName(OVERFLOW, ())] == [late.count(131) + 1] == [32]


def test_a_segment_cannot_be_cut_by_who_has_its_descriptor() -> None:
    _, descriptor = create_segment(1)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def test_the_unnamed_values_hold_a_histogram() -> None:
    assert module._NAMED_MAX + shared.HISTOGRAM_VALUES == shared.VALUES_MAX
    assert private_segment().slots == 1


def test_metrics_are_named_as_prometheus_asks() -> None:
    for metric in TABLE:
        assert metric.name.islower()
        assert metric.name.endswith("_total") == (metric.kind.value == "counter"), metric.name
        assert metric.help.endswith(".")


def requests_of(upstream: str) -> SlotName:
    return SlotName("requests_total", (("upstream", upstream),))


def is_not(upstream: str) -> Callable[[SlotName], bool]:
    return lambda name: dict(name.labels).get("upstream") != upstream


def test_what_is_forgotten_makes_room_and_what_stays_keeps_its_place_and_numbers() -> None:
    segment, (one, other) = two_workers()
    for counters in (one, other):
        for upstream in ("old", "kept"):
            counters.values[counters.slot("requests_total", {"upstream": upstream})] += 3
            counters.histogram("request_duration_seconds", {"upstream": upstream}).observe(1)
    reader = CounterReader(segment)
    assert reader.read()[requests_of("old")] == [6]
    kept = one.slot("requests_total", {"upstream": "kept"})
    gone = one.slot("requests_total", {"upstream": "old"})
    assert one.forget(is_not("old")) == 2
    assert one.forget(is_not("old")) == 0
    assert one.slot("requests_total", {"upstream": "kept"}) == kept
    one.values[gone] += 1  # by whoever did not hear of it
    # Another has its place, and begins with nothing.
    assert one.slot("requests_total", {"upstream": "new"}) == gone
    one.values[gone] += 4
    assert reader.read() == totals(segment)
    sums = reader.read()
    assert (sums[requests_of("kept")], sums[requests_of("new")]) == ([6], [4])
    assert sums[requests_of("old")] == [3]
    other.forget(is_not("old"))
    assert requests_of("old") not in reader.read()
    # A successor knows what is free as well.
    one.forget(is_not("new"))
    successor = Counters(segment, 0)
    assert successor.slot("requests_total", {"upstream": "newer"}) == gone
    assert totals(segment)[requests_of("kept")] == [6]
    assert totals(segment)[requests_of("newer")] == [0]


def test_names_may_come_and_go_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMED_MAX", 1000)
    counters = Counters()
    fixed = counters.slot("datagrams_sent_total")
    for number in range(500):
        name = str(number)
        counters.histogram("request_duration_seconds", {"upstream": name}).observe(1)
        counters.values[counters.slot("requests_total", {"upstream": name})] += 1
        counters.values[fixed] += 1
        if counters.is_scarce:
            counters.forget(lambda slot, name=name: dict(slot.labels).get("upstream", name) == name)
    sums = totals(counters.segment)
    assert sums[SENT] == [500]
    assert sums[requests_of("499")] == [1]
    assert sums[SlotName(OVERFLOW, ())] == [0]


def test_what_found_no_room_is_given_some_once_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMED_MAX", 5)
    counters = Counters()
    for number in range(9):
        counters.values[counters.slot("requests_total", {"upstream": str(number)})] += 1
    counters.forget(is_not("1"))
    counters.values[counters.slot("requests_total", {"upstream": "8"})] += 1
    assert totals(counters.segment)[requests_of("8")] == [1]


def test_names_written_anew_between_names_and_numbers_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segment, (one, _) = two_workers()
    one.values[one.slot("requests_total", {"upstream": "old"})] += 3
    reader = CounterReader(segment)
    summed = module._sum
    moments = iter([lambda: one.forget(is_not("old"))])

    def sum_late(places: list[Any]) -> list[int]:
        next(moments, lambda: None)()
        return summed(places)

    monkeypatch.setattr(module, "_sum", sum_late)
    assert requests_of("old") not in reader.read()


def entry(position: int, name: bytes) -> bytes:
    return struct.pack("<II", position, len(name)) + name


@pytest.mark.parametrize(
    "wrong",
    [
        entry(5, msgspec.msgpack.encode(SlotName("surprises_total", ()))),
        entry(5, b"\xff\xff"),
        entry(5, b""),
        entry(5, msgspec.msgpack.encode(["requests_total", 7])),
        entry(shared.VALUES_MAX, msgspec.msgpack.encode(SENT)),
        entry(shared.VALUES_MAX - 1, msgspec.msgpack.encode(DURATION)),
        struct.pack("<II", 5, 2**32 - 1),
        b"\x01\x02\x03",
    ],
)
def test_names_that_cannot_be_are_passed_over_and_gone_with_the_next_worker(wrong: bytes) -> None:
    segment, (one, other) = two_workers()
    for counters in (one, other):
        counters.values[counters.slot("datagrams_sent_total")] += 2
        counters.values[counters.slot("connections_active", {"transport": "quic"})] += 2
    assert segment.add_name(0, wrong)
    reader = CounterReader(segment)
    assert reader.read()[SENT] == [4]
    forget_gauges(segment, 0)
    assert totals(segment)[ACTIVE] == [2]
    successor = Counters(segment, 0)
    assert successor.values[successor.slot("datagrams_sent_total")] == 2
    successor.values[successor.slot("datagrams_received_total")] += 1
    assert reader.read() == totals(segment)
    assert reader.read()[SlotName("datagrams_received_total", ())] == [1]
