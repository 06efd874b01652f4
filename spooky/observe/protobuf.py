"""Metrics as protocol buffers, which alone carry native histograms (io.prometheus.client)."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from spooky._core.shared import NATIVE_FIRST, NATIVE_SCHEMA, ZERO_THRESHOLD
from spooky.observe.families import Distribution, Family, Labels
from spooky.observe.metrics import Kind

CONTENT_TYPE: Final = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

_TYPES: Final = {Kind.COUNTER: 0, Kind.GAUGE: 1, Kind.HISTOGRAM: 4}

# Field numbers of the messages, and how protocol buffers write each kind of field.
_FAMILY_NAME, _FAMILY_HELP, _FAMILY_TYPE, _FAMILY_METRIC = 1, 2, 3, 4
_METRIC_LABEL, _METRIC_GAUGE, _METRIC_COUNTER, _METRIC_HISTOGRAM = 1, 2, 3, 7
_LABEL_NAME, _LABEL_VALUE = 1, 2
_VALUE = 1
_COUNT, _SUM, _BUCKET, _SCHEMA, _ZERO_THRESHOLD, _ZERO_COUNT = 1, 2, 3, 5, 6, 7
_POSITIVE_SPAN, _POSITIVE_DELTA = 12, 13
_BUCKET_COUNT, _BUCKET_BOUND = 1, 2
_SPAN_OFFSET, _SPAN_LENGTH = 1, 2
_VARINT, _FIXED64, _DELIMITED = 0, 1, 2

_GAP_MAX: Final = 2
"""Empty buckets that are written out; a span of its own costs more than so many of them."""


def encode(families: Iterable[Family]) -> bytes:
    """Return the families, each with its length before it."""
    pieces: list[bytes] = []
    for family in families:
        message = _family(family)
        pieces += (_varint(len(message)), message)
    return b"".join(pieces)


def _family(family: Family) -> bytes:
    return b"".join(
        (
            _bytes(_FAMILY_NAME, family.name.encode()),
            _bytes(_FAMILY_HELP, family.help.encode()),
            _number(_FAMILY_TYPE, _TYPES[family.kind]),
            *(
                _bytes(_FAMILY_METRIC, _labels(labels) + _sample(family.kind, value))
                for labels, value in family.samples
            ),
        )
    )


def _labels(labels: Labels) -> bytes:
    return b"".join(
        _bytes(
            _METRIC_LABEL,
            _bytes(_LABEL_NAME, name.encode()) + _bytes(_LABEL_VALUE, text.encode()),
        )
        for name, text in labels
    )


def _sample(kind: Kind, value: float | Distribution) -> bytes:
    if isinstance(value, Distribution):
        return _bytes(_METRIC_HISTOGRAM, _histogram(value))
    number = _METRIC_COUNTER if kind is Kind.COUNTER else _METRIC_GAUGE
    return _bytes(number, _double(_VALUE, value))


def _histogram(one: Distribution) -> bytes:
    pieces = [_number(_COUNT, one.counts[-1]), _double(_SUM, one.total)]
    for count, bound in zip(one.counts, (*one.bounds, float("inf")), strict=True):
        bucket = _number(_BUCKET_COUNT, count) + _double(_BUCKET_BOUND, bound)
        pieces.append(_bytes(_BUCKET, bucket))
    if one.native:
        pieces += (
            _number(_SCHEMA, _zigzag(NATIVE_SCHEMA)),
            _double(_ZERO_THRESHOLD, ZERO_THRESHOLD),
            _number(_ZERO_COUNT, one.zero),
        )
        deltas, before, end = [], 0, 0
        for start, counts in _spans(one.native):
            # The first span counts from bucket 0, each other from where the one before ended.
            offset = start + NATIVE_FIRST if not end else start - end
            span = _number(_SPAN_OFFSET, _zigzag(offset)) + _number(_SPAN_LENGTH, len(counts))
            pieces.append(_bytes(_POSITIVE_SPAN, span))
            end = start + len(counts)
            for count in counts:
                deltas.append(_varint(_zigzag(count - before)))
                before = count
        if not deltas:
            # A span without buckets tells an empty native histogram from a classic one.
            pieces.append(_bytes(_POSITIVE_SPAN, _number(_SPAN_OFFSET, 0)))
        else:
            pieces.append(_bytes(_POSITIVE_DELTA, b"".join(deltas)))
    return b"".join(pieces)


def _spans(counts: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield where buckets are in use, with what they count."""
    used = [place for place, count in enumerate(counts) if count]
    start = 0
    for number, place in enumerate(used):
        if number and place - used[number - 1] > _GAP_MAX + 1:
            yield used[start], counts[used[start] : used[number - 1] + 1]
            start = number
    if used:
        yield used[start], counts[used[start] : used[-1] + 1]


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _DELIMITED) + _varint(len(content)) + content


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    made = bytearray()
    while value >= 128:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
