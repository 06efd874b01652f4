"""What the stages of admission that have more than a limit cost a request."""

from typing import Final

from spooky._core.breaker import Breaker
from spooky._core.concurrency import Gradient
from spooky._core.gate import Gate
from spooky._core.stages import AdaptiveStage, BackendStage, Brownout, Pressure, PriorityStage
from spooky._core.validate import HTTP_3, Limits, Request, validate_request
from spooky.bench.kernels.case import Case, Work
from spooky.bench.kernels.heads import REQUEST
from spooky.bench.kernels.loops import calls
from spooky.bench.kernels.shared import segment

LIMIT: Final = 1_000


def _enter() -> Work:
    made = segment()
    words, breakers = made.words(2), made.words(4)
    assert words is not None
    assert breakers is not None
    adaptive = Gradient(words, 4, LIMIT, 1.1, 60.0)
    everywhere = Gate()
    stages = (
        PriorityStage(Pressure(), 1, (Brownout(everywhere, LIMIT, adaptive, 90, 80, 3),)),
        AdaptiveStage(everywhere, adaptive),
        BackendStage(Gate(), LIMIT, Breaker(breakers, 5, 1_000, 60_000, 1)),
    )
    request = validate_request(list(REQUEST), HTTP_3, Limits())
    assert isinstance(request, Request)

    def enter_and_withdraw() -> int:
        entered = 0
        for stage in stages:
            entered += stage.enter(request, 1.0)
        for stage in stages:
            stage.withdraw()
        return entered

    return calls(lambda entered: entered == len(stages), enter_and_withdraw)


CASES: Final = (Case("stages: enter by priority, adaptive limit and breaker, withdraw", _enter),)
