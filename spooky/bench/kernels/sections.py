"""What it costs to code field sections, of lines that came before and of new ones.

The twin is pylsqpack and nothing else.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pylsqpack import Encoder

from spooky._core.sections import decode_fields, encode_fields
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST, RESPONSE

CALLS: Final = 1_000

Head = list[tuple[bytes, bytes]]

_numbers = itertools.count()


def _known() -> Head:
    return list(RESPONSE)


def _with_news() -> Head:
    """Return an answer with three lines that nobody else has, as files and logs make them."""
    number = next(_numbers)
    return [
        *RESPONSE,
        (b"etag", b'"%x-5f"' % (number * 2_654_435_761 & 0xFFFF_FFFF_FFFF)),
        (b"content-length", b"%d" % (number % 1_000_000)),
        (b"x-request-id", b"%016x" % (number * 0x9E37_79B9_7F4A_7C15 & 0xFFFF_FFFF_FFFF_FFFF)),
    ]


def _coded(code: Callable[[Any], Any], prepare: Callable[[], Any]) -> Work:
    """Return what codes something else each time, which is made untimed."""

    def before() -> tuple[list[Any]]:
        return ([prepare() for _ in range(CALLS)],)

    def run(each: list[Any]) -> Any:
        last = None
        for one in each:
            last = code(one)
        return last

    return Work(run=run, right=bool, calls=CALLS, before=before)


def _encode(make: Callable[[], Head]) -> Work:
    return _coded(encode_fields, make)


def _decode() -> Work:
    _, block = Encoder().encode(0, REQUEST)
    return _coded(lambda each: decode_fields(each, 128, 16_384), lambda: block)


CASES: Final = (
    Case("sections: encode an answer that came before", partial(_encode, _known)),
    Case("sections: encode an answer with three new lines", partial(_encode, _with_news)),
    Case("sections: decode a request, path and cookie anew", _decode),
)
