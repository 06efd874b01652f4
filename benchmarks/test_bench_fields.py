"""What it costs to turn one side's head into the other's, compiled and as the twin does it."""

from types import ModuleType
from typing import TypeAlias

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY, REQUEST, RESPONSE, TRAILERS
from benchmarks.loops import time_calls
from spooky._core import fields as compiled
from spooky._core import validate as compiled_validate
from spooky._core.pure import fields as pure
from spooky._core.pure import validate as pure_validate

Kernels: TypeAlias = tuple[ModuleType, ModuleType]

SIDES = pytest.mark.parametrize(
    "kernels",
    [
        pytest.param((compiled, compiled_validate), id="compiled", marks=COMPILED_ONLY),
        pytest.param((pure, pure_validate), id="pure"),
    ],
)
ROUTE = (b"192.0.2.1", b"https", b"http", b"backend:8080")
EXTRA = ((b"alt-svc", b'h3=":443"; ma=86400'),)


@SIDES
@pytest.mark.parametrize("mode", ["overwrite", "append", "preserve"])
def test_forward_request(benchmark: BenchmarkFixture, kernels: Kernels, mode: str) -> None:
    fields, validate = kernels
    benchmark.group = f"forward_request: 15 fields, {mode}"
    head = [*REQUEST, (b"x-forwarded-for", b"198.51.100.7")]
    request = validate.validate_request(head, validate.HTTP_3, validate.Limits())
    sent = time_calls(
        benchmark, fields.forward_request, request, fields.ForwardingPolicy(mode), *ROUTE
    )
    assert len(sent) == (16 if mode == "preserve" else 19)


@SIDES
@pytest.mark.benchmark(group="forward_response: 10 fields")
def test_forward_response(benchmark: BenchmarkFixture, kernels: Kernels) -> None:
    fields, validate = kernels
    response = validate.validate_response(RESPONSE, 128, 16384)
    assert len(time_calls(benchmark, fields.forward_response, response, EXTRA)) == 10


@SIDES
@pytest.mark.benchmark(group="forward_trailers: 2 fields")
def test_forward_trailers(benchmark: BenchmarkFixture, kernels: Kernels) -> None:
    assert time_calls(benchmark, kernels[0].forward_trailers, TRAILERS) == TRAILERS


@SIDES
@pytest.mark.benchmark(group="pack_http1_request: 19 fields")
def test_pack_http1_request(benchmark: BenchmarkFixture, kernels: Kernels) -> None:
    fields, validate = kernels
    request = validate.validate_request(REQUEST, validate.HTTP_3, validate.Limits())
    sent = fields.forward_request(request, fields.ForwardingPolicy(), *ROUTE)
    assert time_calls(benchmark, fields.pack_http1_request, sent, False).endswith(b"\r\n\r\n")


@SIDES
@pytest.mark.benchmark(group="pack_http1_response: 10 fields")
def test_pack_http1_response(benchmark: BenchmarkFixture, kernels: Kernels) -> None:
    fields, validate = kernels
    sent = fields.forward_response(validate.validate_response(RESPONSE, 128, 16384), EXTRA)
    assert time_calls(benchmark, fields.pack_http1_response, sent, False, False).endswith(
        b"\r\n\r\n"
    )
