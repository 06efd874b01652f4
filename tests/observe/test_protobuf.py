"""Metrics as protocol buffers: native histograms that say what was observed."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky._core.shared import LATENCY_BOUNDS, ZERO_THRESHOLD
from spooky.observe.counters import Counters
from spooky.observe.exposition import Exposition
from spooky.observe.metrics import Fact
from spooky.observe.protobuf import CONTENT_TYPE

# As Prometheus 2.40 and later ask where native histograms are switched on.
PROMETHEUS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;"
    "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the fields of a message, as far as their wire types tell."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | float | bytes
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            (value,), at = struct.unpack_from("<d", data, at), at + 8
        else:
            assert kind == 2
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        yield number, value


def families(page: bytes) -> dict[str, list[dict[int, list[object]]]]:
    """Return the samples of each family by name."""
    found = {}
    at = 0
    while at < len(page):
        length, at = varint(page, at)
        family = collected(page[at : at + length])
        at += length
        found[family[1][0].decode()] = [collected(one) for one in family[4]]
    return found


def collected(message: bytes) -> dict[int, list]:
    made: dict[int, list] = {}
    for number, value in fields(message):
        made.setdefault(number, []).append(value)
    return made


def zigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def native(histogram: dict[int, list]) -> dict[int, int]:
    """Return what each native bucket counts, by its number."""
    deltas, at = [], 0
    packed = histogram.get(13, [b""])[0]
    while at < len(packed):
        delta, at = varint(packed, at)
        deltas.append(zigzag(delta))
    counts, bucket, count = {}, 0, 0
    for span in map(collected, histogram[12]):
        bucket += zigzag(span.get(1, [0])[0])
        for _ in range(span.get(2, [0])[0]):
            count += deltas.pop(0)
            counts[bucket] = count
            bucket += 1
    assert not deltas
    return {bucket: count for bucket, count in counts.items() if count}


def page(counters: Counters, facts: list[Fact]) -> dict[str, list[dict[int, list]]]:
    body, content_type = Exposition(counters.segment, lambda: facts).page(PROMETHEUS)
    assert content_type == CONTENT_TYPE
    return families(body)


@given(st.lists(st.floats(0, 100) | st.sampled_from(LATENCY_BOUNDS), max_size=30))
def test_both_kinds_of_buckets_say_what_was_observed(durations: list[float]) -> None:
    counters = Counters()
    histogram = counters.histogram("request_duration_seconds", {"upstream": "é"})
    for duration in durations:
        histogram.observe(duration)
    (sample,) = page(counters, [])["spooky_request_duration_seconds"]
    assert collected(sample[1][0]) == {1: [b"upstream"], 2: ["é".encode()]}
    told = collected(sample[7][0])
    assert told[1] == [len(durations)]
    assert told[2][0] == pytest.approx(sum(durations), abs=1e-5)
    for bucket in map(collected, told[3]):
        assert bucket[1] == [sum(duration <= bucket[2][0] for duration in durations)]
    assert told[5] == [zigzag_of(2)]
    assert told[6] == [ZERO_THRESHOLD]
    assert told[7] == [sum(duration <= ZERO_THRESHOLD for duration in durations)]
    expected: dict[int, int] = {}
    for duration in durations:
        if duration > ZERO_THRESHOLD:
            number = next(n for n in range(-60, 60) if duration <= 2 ** (n / 4))
            expected[number] = expected.get(number, 0) + 1
    assert native(told) == expected


def zigzag_of(value: int) -> int:
    return value << 1


def test_counters_and_gauges_keep_their_names_and_labels() -> None:
    counters = Counters()
    counters.values[counters.slot("requests_total", {"upstream": "a", "reason": "x" * 200})] += 300
    found = page(counters, [Fact("workers", "Workers.", 2)])
    (sample,) = found["spooky_requests_total"]
    assert collected(sample[3][0]) == {1: [300.0]}
    assert [collected(label)[2][0] for label in sample[1]] == [b"x" * 200, b"a"]
    assert collected(found["spooky_workers"][0][2][0]) == {1: [2.0]}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS, "protobuf"),
        (PROMETHEUS.replace("delimited,", "delimited;q=0.1,"), "openmetrics"),
        (PROMETHEUS.replace("delimited", "text"), "openmetrics"),
        ("application/vnd.google.protobuf;q=nonsense", "plain"),
        ("", "plain"),
        ("*/*", "plain"),
    ],
)
def test_protocol_buffers_come_only_where_they_are_liked_best(accept: str, form: str) -> None:
    _, content_type = Exposition(Counters().segment, tuple).page(accept)
    assert form in content_type
