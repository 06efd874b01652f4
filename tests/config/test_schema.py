"""The schema: defaults, immutability, and the pages made of it."""

import re

import msgspec
import pytest
from msgspec import inspect

from spooky.config import Configuration, load_text
from spooky.config.field_docs import field_docs, section_text
from spooky.config.glitches import Glitches
from spooky.config.json_schema import configuration_schema
from spooky.config.performance import Performance
from spooky.config.reference import reference
from spooky.config.resilience import ProtocolLimits
from spooky.config.schema import (
    BALANCING_ALIASES,
    BALANCING_TYPES,
    HASHING_TYPES,
    BalancingType,
    Listener,
    LoadBalancing,
    UpstreamTLS,
)
from spooky.config.starter import starter
from tests.config.support import minimal

REFERENCE_DEFAULTS = {
    "udp_recv_buffer_bytes": 8388608,
    "udp_send_buffer_bytes": 8388608,
    "h2_pool_max_idle_per_backend": 256,
    "h2_pool_idle_timeout_ms": 90000,
    "new_connections_per_sec": 2000,
    "new_connections_burst": 500,
    "max_active_connections": 20000,
    "backend_connect_timeout_ms": 500,
    "backend_timeout_ms": 2000,
    "backend_body_total_timeout_ms": 30000,
    "shutdown_drain_timeout_ms": 5000,
    "request_buffer_global_cap_bytes": 67108864,
    "global_inflight_limit": 4096,
    "per_upstream_inflight_limit": 1024,
}
OUR_DEFAULTS = {
    "inflight_acquire_wait_ms": 50,
    "backend_body_idle_timeout_ms": 60000,
    "client_body_idle_timeout_ms": 60000,
    "backend_total_request_timeout_ms": None,
    "quic_max_idle_timeout_ms": 30000,
    "quic_initial_max_stream_data": 262144,
    "quic_initial_max_data": 1048576,
    "max_request_body_bytes": None,
    "max_response_body_bytes": None,
    "unknown_length_response_prebuffer_bytes": 0,
    "per_backend_inflight_limit": 1024,
}


@pytest.mark.parametrize(("name", "default"), [*REFERENCE_DEFAULTS.items(), *OUR_DEFAULTS.items()])
def test_defaults_are_those_of_the_reference_but_where_the_design_says_otherwise(name, default):
    assert getattr(Performance(), name) == default


def test_defaults_outside_performance_are_those_of_the_reference():
    configuration = load_text(minimal())
    assert configuration.listen == Listener(tls=configuration.listen.tls)
    assert (Listener().protocol, Listener().address, Listener().port) == ("http3", "0.0.0.0", 9889)
    assert ProtocolLimits() == ProtocolLimits(
        128, 16384, True, "drop", False, ("GET", "HEAD"), (), (), Glitches()
    )
    assert UpstreamTLS() == UpstreamTLS(True, True, None, None, None, None)
    assert configuration.upstream["api"].backends[0].weight == 100
    assert configuration.upstream["api"].host_policy.mode == "pass_through"
    assert configuration.upstream["api"].forwarded_headers.mode == "overwrite"
    assert configuration.load_balancing.type == "round-robin"
    assert (configuration.log.level, configuration.log.format) == ("info", "plain")
    assert configuration.log.file.enabled is False


def test_a_configuration_is_immutable():
    with pytest.raises(AttributeError):
        load_text(minimal()).performance.global_inflight_limit = 1


def test_every_spelling_of_a_balancing_type_means_a_canonical_one():
    spellings = set(BalancingType.__args__)
    assert spellings == {*BALANCING_TYPES, *BALANCING_ALIASES}
    for spelling in spellings:
        assert LoadBalancing(type=spelling).type in BALANCING_TYPES
    assert set(HASHING_TYPES) <= set(BALANCING_TYPES)


def sections(section):
    yield section
    for doc in field_docs(section):
        if doc.section is not None:
            yield from sections(doc.section)


def test_every_key_and_section_is_described():
    for section in sections(inspect.type_info(Configuration)):
        assert section_text(section).endswith(".")
        for doc in field_docs(section):
            assert doc.text.endswith("."), doc.name
            assert not doc.hazard or doc.hazard.endswith("."), doc.name
            if doc.name.endswith("_ms"):
                assert doc.unit == "ms"
            if doc.name.endswith("_bytes"):
                assert doc.unit == "bytes"


def test_the_reference_page_has_every_key_once():
    rows = re.findall(r"^\| `(\w+)` \|", reference(), re.MULTILINE)
    names = []
    seen = set()
    for section in sections(inspect.type_info(Configuration)):
        if section.cls not in seen:
            seen.add(section.cls)
            names += [doc.name for doc in field_docs(section)]
    assert sorted(rows) == sorted(names)


def test_choices_are_in_the_order_of_the_schema():
    """Levels by severity, not by alphabet."""
    assert "one of `off`, `error`, `warn`, `info`, `debug`, `trace`" in reference()


def test_the_json_schema_says_what_the_types_say():
    schema = configuration_schema()
    assert schema["$defs"]["Configuration"]["additionalProperties"] is False
    port = schema["$defs"]["Listener"]["properties"]["port"]
    assert (port["type"], port["minimum"], port["maximum"], port["default"]) == (
        "integer", 0, 65535, 9889,
    )  # fmt: skip
    assert "Hazard: Firewalls" in port["description"]
    idle = schema["$defs"]["Performance"]["properties"]["quic_max_idle_timeout_ms"]
    assert "Unit: ms." in idle["description"]
    level = schema["$defs"]["Log"]["properties"]["level"]
    assert "off" in level["enum"]
    for definition in schema["$defs"].values():
        assert definition["description"]
        assert all(field["description"] for field in definition["properties"].values())


def test_the_starter_is_a_good_configuration_as_it_is_and_uncommented():
    configuration = load_text(starter())
    assert configuration.listen is not None
    assert list(configuration.upstream) == ["web"]
    uncommented = re.sub(r"^( *)#(?=\w+:)", r"\1", starter(), flags=re.MULTILINE)
    assert uncommented != starter()
    assert load_text(uncommented) == configuration


def test_the_starter_is_explained_by_the_schema():
    assert "Path prefix, matched on segment boundaries" in starter()
    assert max(len(line) for line in starter().splitlines()) <= 100


def test_a_configuration_survives_a_round_trip_through_builtins():
    configuration = load_text(minimal())
    assert msgspec.convert(msgspec.to_builtins(configuration), Configuration) == configuration
