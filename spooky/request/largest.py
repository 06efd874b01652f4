"""What requests hold in memory, and how one is ended for it."""

from collections.abc import Iterable, Iterator
from functools import partial

from spooky._core import reasons
from spooky.overload.largest import Held
from spooky.protocol.holding import Holding
from spooky.request.exchange import Exchange


def held_by_requests(holdings: Iterable[Holding]) -> Iterator[Held]:
    """Yield what streams hold, with what their exchanges hold beside them.

    To reset one whose exchange is not over ends that: by an answer if no response has begun.
    """
    for size, handler, reset in holdings:
        if isinstance(handler, Exchange) and not handler.finished:
            end = partial(handler.fail, reasons.OVERLOAD_RESET)
            yield Held(size + handler.held_bytes, end)
        else:
            yield Held(size, partial(reset, reasons.OVERLOAD_RESET))
