"""What a limit on requests in flight costs each of them."""

from typing import Final

from spooky._core.gate import Gate, Places
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment

LIMIT: Final = 10


def _enter_and_leave(places: Places) -> Work:
    gate = Gate(places)

    def enter_and_leave() -> int:
        gate.try_enter(LIMIT)
        gate.leave()
        return gate.active

    return calls(lambda active: active == 0, enter_and_leave)


def _own() -> Work:
    return _enter_and_leave(Places())


def _shared() -> Work:
    return _enter_and_leave(Places(segment().limit(6, 1)))


CASES: Final = (
    Case("gate: enter and leave", _own),
    Case("gate: enter and leave, shared by workers", _shared),
)
