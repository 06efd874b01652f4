"""Each limit on what there may be at once says whether it is the machine's or each worker's."""

import pytest

from spooky.config.reference import reference

COUNTED = [
    "max_active_connections", "max_half_open_connections", "new_connections_per_sec",
    "new_connections_burst", "new_connections_per_source_per_sec",
    "new_connections_per_source_burst", "global_inflight_limit", "per_upstream_inflight_limit",
    "per_backend_inflight_limit", "request_buffer_global_cap_bytes",
    "retry_buffer_global_cap_bytes", "max_inflight", "h2_pool_max_idle_per_backend",
]  # fmt: skip

SECTIONS = ["adaptive_admission", "route_queue", "brownout", "circuit_breaker", "retry_budget"]


def said(text: str) -> bool:
    return any(whose in text.lower() for whose in ("per machine", "by each worker"))


@pytest.mark.parametrize("key", COUNTED)
def test_a_limit_says_whose_it_is(key: str) -> None:
    rows = [line for line in reference().splitlines() if line.startswith(f"| `{key}` |")]
    assert rows
    assert all(map(said, rows))


@pytest.mark.parametrize("section", SECTIONS)
def test_so_does_a_section_of_limits(section: str) -> None:
    _, _, after = reference().partition(f"## `resilience.{section}`")
    assert said(after.split("|", 1)[0])
