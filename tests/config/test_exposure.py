"""What `spooky check --security` finds: nothing by default, and each thing that is opened."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from spooky.config import diagnose_mapping
from spooky.config.control_reach import _is_own
from spooky.config.exposure import find_exposures
from spooky.config.problems import format_path


def settings(**more: Any) -> dict[str, Any]:
    return {
        "listen": {"tls": {"cert": "cert.pem", "key": "key.pem"}},
        "upstream": {
            "api": {"route": {"host": "a"}, "backends": [{"id": "a", "address": "a.example"}]}
        },
        **more,
    }


def found(mapping: dict[str, Any]) -> list[str]:
    diagnosis = diagnose_mapping(mapping)
    assert diagnosis.configuration is not None, diagnosis.problems
    return [format_path(each.path) for each in find_exposures(diagnosis.configuration)]


def test_what_is_not_configured_is_safe() -> None:
    assert found(settings()) == []


def backend(address: str, **more: Any) -> dict[str, Any]:
    route = {"host": "a"}
    return {"api": {"route": route, "backends": [{"id": "a", "address": address}], **more}}


def listen(**more: Any) -> dict[str, Any]:
    tls = {"cert": "cert.pem", "key": "key.pem", **more.pop("tls", {})}
    return {"listen": {"tls": tls, **more}}


DEMANDS = {"enabled": True, "require_client_cert": True, "ca_file": "ca.pem"}


def named(**client_auth: Any) -> dict[str, Any]:
    """Return the certificate of a name that asks clients for something of its own."""
    files = {"cert": "cert.pem", "key": "key.pem"}
    return {"server_name": "a", **files, "client_auth": client_auth}


OPENED = [
    (listen(tls={"strict_authority": False}), "listen.tls.strict_authority"),
    (
        listen(tls={"client_auth": {"enabled": True, "ca_file": "ca.pem"}}),
        "listen.tls.client_auth.require_client_cert",
    ),
    (
        listen(tls={"certificates": [named(enabled=True, ca_file="ca.pem")]}),
        "listen.tls.certificates[0].client_auth.require_client_cert",
    ),
    (
        listen(tls={"client_auth": DEMANDS, "certificates": [named(enabled=False)]}),
        "listen.tls.certificates[0].client_auth.enabled",
    ),
    (
        listen(client_address={"trusted_cidrs": ["0.0.0.0/0"], "header": "forwarded"}),
        "listen.client_address.trusted_cidrs[0]",
    ),
    (
        listen(client_address={"trusted_cidrs": ["::ffff:0:0/96"], "header": "forwarded"}),
        "listen.client_address.trusted_cidrs[0]",
    ),
    ({"upstream": backend("http://192.0.2.1")}, "upstream.api.backends[0].address"),
    (
        {"upstream": backend("a.example", forwarded_headers={"mode": "append"})},
        "upstream.api.forwarded_headers.mode",
    ),
    (
        {"upstream": backend("a.example", tls={"verify_certificates": False})},
        "upstream.api.tls.verify_certificates",
    ),
    ({"upstream_tls": {"verify_certificates": False}}, "upstream_tls.verify_certificates"),
    ({"upstream_tls": {"strict_sni": False}}, "upstream_tls.strict_sni"),
    (
        {"performance": {"max_half_open_connections": 100_000_000}},
        "performance.max_half_open_connections",
    ),
    ({"performance": {"quic_retry": "never"}}, "performance.quic_retry"),
    *(
        ({"performance": {key: value}}, f"performance.{key}")
        for key, value in (
            ("client_min_request_bytes_per_sec", None),
            ("client_min_request_bytes_per_sec", 1),
            ("client_min_response_bytes_per_sec", None),
            ("client_rate_grace_ms", 86_400_000),
        )
    ),
    ({"resilience": {"overload": {"enabled": False}}}, "resilience.overload.enabled"),
    (
        {"resilience": {"protocol": {"enforce_authority_host_match": False}}},
        "resilience.protocol.enforce_authority_host_match",
    ),
    (
        {"resilience": {"protocol": {"underscores_in_headers": "pass"}}},
        "resilience.protocol.underscores_in_headers",
    ),
    (
        {"resilience": {"protocol": {"glitches": {"connection_budget": None}}}},
        "resilience.protocol.glitches.connection_budget",
    ),
    (
        {"resilience": {"protocol": {"glitches": {"source_budget": 100_000}}}},
        "resilience.protocol.glitches.source_budget",
    ),
    (
        {"observability": {"control_api": {"enabled": True}}},
        "observability.control_api.auth",
    ),
    ({"security": {"sandbox": False}}, "security.sandbox"),
    ({"security": {"privileges": {"enabled": False}}}, "security.privileges.enabled"),
]


@pytest.mark.parametrize(("opened", "path"), OPENED, ids=[path for _, path in OPENED])
def test_what_is_opened_is_found(opened: dict[str, Any], path: str) -> None:
    assert found(settings(**opened)) == [path]


def test_an_open_listener_with_the_certificate_of_one_that_demands_some_is_found() -> None:
    def listener(port: int, **more: Any) -> dict[str, Any]:
        return {"port": port, "tls": {"cert": "cert.pem", "key": "key.pem", **more}}

    own = {"server_name": "a", "cert": "cert.pem", "key": "key.pem"}
    closed = listener(2, client_auth=DEMANDS)
    other = {"cert": "other.pem", "key": "other.key"}
    for open_one, closed_one, is_open in (
        (listener(1), closed, True),
        (listener(1, cert="other.pem", certificates=[own]), closed, True),
        (listener(1, cert="other.pem"), closed, False),
        (listener(1, client_auth=DEMANDS), closed, False),
        (listener(1), listener(2, **other, certificates=[named(**DEMANDS)]), True),
        (listener(1, **other), listener(2, **other, certificates=[named(**DEMANDS)]), False),
        (listener(1, **other, certificates=[named(**DEMANDS)]), closed, False),
        (listener(1, cert="", key="", certificates=[own | {"client_auth": DEMANDS}]), closed, True),
        # Within one listener it is the name that is asked for that tells them apart.
        (listener(1, **other), listener(2, certificates=[named(**DEMANDS)]), False),
    ):
        mapping = settings(listeners=[open_one, closed_one])
        del mapping["listen"]
        configuration = diagnose_mapping(mapping).configuration
        assert configuration is not None
        texts = [
            f"{format_path(e.path)} {e.meaning} {e.safe}" for e in find_exposures(configuration)
        ]
        assert len(texts) == is_open
        for text in texts:
            assert text.startswith("listeners[0].tls.client_auth.require_client_cert")
            assert ":1" in text
            assert ":2 (listeners[1])" in text


def test_backends_of_this_machine_may_be_spoken_to_in_clear() -> None:
    for address in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"):
        assert found(settings(upstream=backend(address))) == []


def test_keys_that_others_can_read_are_found(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    mapping = settings(listen={"tls": {"cert": "cert.pem", "key": str(key)}})
    for mode, expected in ((0o600, []), (0o400, []), (0o640, 1), (0o604, 1), (0o620, 1)):
        key.chmod(mode)
        assert len(found(mapping)) == (expected or 0)


def test_a_key_of_the_control_api_that_others_can_read_is_found(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o644)
    tls = {"cert": "cert.pem", "key": str(key)}
    path = "observability.control_api.tls.key"
    for enabled in (True, False):
        api = {"enabled": enabled, "tls": tls}
        assert (path in found(settings(observability={"control_api": api}))) is enabled


@pytest.mark.parametrize(
    ("address", "api", "is_wrong"),
    [
        ("http://127.0.0.1:9902", {}, True),
        ("https://localhost:9902", {}, True),
        ("http://[::ffff:127.0.0.1]:9902", {}, True),
        ("http://0.0.0.0:9902", {}, True),
        ("http://127.0.0.1:9903", {}, False),
        ("http://192.0.2.1:9902", {}, False),
        ("http://127.0.0.1:9902", {"enabled": False}, False),
    ],
)
def test_no_backend_is_the_control_api(address: str, api: dict[str, Any], is_wrong: bool) -> None:
    """Clients would be routed to it, from the address that it trusts most."""
    mapping = settings(
        upstream=backend(address), observability={"control_api": {"enabled": True, **api}}
    )
    problems = [each for each in diagnose_mapping(mapping).problems if each.severity == "error"]
    assert [each.path for each in problems] == (
        ["upstream.api.backends[0].address"] if is_wrong else []
    )


@pytest.mark.parametrize("listened", ["0.0.0.0", "::"])
def test_no_own_address_of_this_machine_leads_to_what_listens_on_all(
    listened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ipaddress.ip_address("192.0.2.1")
    monkeypatch.setattr("spooky.config.control_reach._is_own", lambda address: address == own)
    for address, expected in (("192.0.2.1:9100", True), ("192.0.2.2:9100", False)):
        mapping = settings(
            upstream=backend(f"http://{address}"),
            observability={"metrics": {"enabled": True, "address": listened, "port": 9100}},
        )
        problems = [each.path for each in diagnose_mapping(mapping).problems]
        assert ("upstream.api.backends[0].address" in problems) is expected


def test_what_listens_at_a_mapped_address_is_where_ipv4_leads() -> None:
    metrics = {"enabled": True, "address": "::ffff:127.0.0.1", "port": 9100}
    mapping = settings(
        upstream=backend("http://127.0.0.1:9100"), observability={"metrics": metrics}
    )
    assert "upstream.api.backends[0].address" in [
        each.path for each in diagnose_mapping(mapping).problems
    ]


def test_own_addresses_are_told_from_others() -> None:
    assert _is_own(ipaddress.ip_address("127.0.0.1"))
    assert not _is_own(ipaddress.ip_address("192.0.2.1"))
