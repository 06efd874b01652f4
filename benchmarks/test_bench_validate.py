"""What it costs to validate a head, compiled and as the twin does it."""

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.heads import COMPILED_ONLY, REQUEST, RESPONSE, TRAILERS
from benchmarks.loops import time_calls
from spooky._core import validate as compiled
from spooky._core.pure import validate as pure

SIDES = pytest.mark.parametrize(
    "kernel",
    [pytest.param(compiled, id="compiled", marks=COMPILED_ONLY), pytest.param(pure, id="pure")],
)


@SIDES
@pytest.mark.benchmark(group="validate_request: 15 fields")
def test_validate_request(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    result = time_calls(benchmark, kernel.validate_request, REQUEST, kernel.HTTP_3, kernel.Limits())
    assert isinstance(result, kernel.Request)


@SIDES
@pytest.mark.benchmark(group="validate_request: path with escapes, Host beside :authority")
def test_validate_request_canonicalises(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    changed = {
        b":path": b"/%7Euser/a%2Fb/%C3%A4/%62%2e.js?x=%20",
        b":authority": b"WWW.Example.com",
    }
    head = [(name, changed.get(name, value)) for name, value in REQUEST]
    head.append((b"host", b"www.example.com:443"))
    result = time_calls(benchmark, kernel.validate_request, head, kernel.HTTP_3, kernel.Limits())
    assert result.path == b"/~user/a%2Fb/%C3%A4/b..js"


@SIDES
@pytest.mark.benchmark(group="validate_response: 10 fields")
def test_validate_response(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    result = time_calls(benchmark, kernel.validate_response, RESPONSE, 128, 16384)
    assert result.content_length == 15234


@SIDES
@pytest.mark.benchmark(group="validate_trailers: 2 fields")
def test_validate_trailers(benchmark: BenchmarkFixture, kernel: ModuleType) -> None:
    assert time_calls(benchmark, kernel.validate_trailers, TRAILERS, 128, 16384) is None
