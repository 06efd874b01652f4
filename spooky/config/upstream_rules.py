"""The rules that the type of one value cannot say: upstreams, backends and balancing."""

import re
from collections.abc import Collection
from typing import Final

from spooky.config.forwarding import HostPolicy
from spooky.config.health import check_health_check
from spooky.config.hosts import (
    EMBEDDED_SCHEME,
    BackendAddress,
    parse_backend_address,
    parse_host,
    split_port,
)
from spooky.config.listener_rules import check_pair
from spooky.config.outlier_detection import check_outlier_detection
from spooky.config.problems import InvalidValueError, Path, format_path, quoted
from spooky.config.report import Report
from spooky.config.schema import (
    BALANCING_KEYS,
    BALANCING_NAMED_KEYS,
    HASHING_TYPES,
    NAME_LENGTH_MAX,
    Backend,
    Configuration,
    LoadBalancing,
    Upstream,
    UpstreamTLS,
)
from spooky.config.slow_start import check_slow_start

TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2: methods, and names of header fields and cookies."""


def check_upstreams(configuration: Configuration, apps: Collection[str], report: Report) -> None:
    """Report what is wrong with the upstreams, alone and together.

    Arguments:
        configuration: As read.
        apps: Names of the applications embedded with Spooky.
        report: Where problems go.
    """
    _check_balancing(("load_balancing",), configuration.load_balancing, report)
    _check_tls(("upstream_tls",), configuration.upstream_tls, report)
    for name, upstream in configuration.upstream.items():
        path = ("upstream", name)
        if len(name) > NAME_LENGTH_MAX:
            report.error(path, f"the name is longer than {NAME_LENGTH_MAX} characters")
        addresses = _check_backends((*path, "backends"), upstream.backends, apps, report)
        _check_protocol(path, upstream, report)
        _check_health_checks((*path, "backends"), upstream, report)
        check_outlier_detection((*path, "outlier_detection"), upstream.outlier_detection, report)
        if upstream.slow_start is not None:
            balancing = configuration.load_balancing_of(name).type
            check_slow_start((*path, "slow_start"), balancing, balancing in HASHING_TYPES, report)
        if upstream.load_balancing is not None:
            _check_balancing((*path, "load_balancing"), upstream.load_balancing, report)
        _check_host_policy((*path, "host_policy"), upstream.host_policy, report)
        if upstream.tls is not None:
            _check_upstream_tls((*path, "tls"), upstream.tls, addresses, report)


def _check_backends(
    path: Path, backends: tuple[Backend, ...], apps: Collection[str], report: Report
) -> list[BackendAddress]:
    """Report what is wrong with backends and return the addresses that are not."""
    ids: dict[str, Path] = {}
    origins: dict[BackendAddress, Path] = {}
    for i, backend in enumerate(backends):
        id_path, address_path = (*path, i, "id"), (*path, i, "address")
        other = id_path if report.is_broken(id_path) else ids.setdefault(backend.id, id_path)
        if other != id_path:
            report.error(
                id_path,
                f"{format_path(other[:-1])} has the same id",
                "give each backend of an upstream an id of its own",
            )
        if report.is_broken(address_path):
            continue
        try:
            address = parse_backend_address(backend.address)
        except InvalidValueError as error:
            report.error(address_path, error.message, error.remedy)
            continue
        if address.scheme == EMBEDDED_SCHEME and address.host not in apps:
            known = f"there are {', '.join(sorted(apps))}" if apps else "there are none here"
            report.error(
                address_path,
                f"no application is embedded as {quoted(address.host)}: {known}",
                "applications are given to spooky.Proxy; for a host of this name write "
                f"https://{backend.address}",
            )
        if address.scheme == "https" and "://" not in backend.address and address.port != 443:
            # Port 443 says what is meant.
            report.warning(
                address_path,
                f"{quoted(backend.address)} has no scheme, so the backend is asked over TLS",
                f"write https://{backend.address}, or http://{backend.address} if it has no TLS",
            )
        other = origins.setdefault(address, address_path)
        if other != address_path:
            report.error(
                address_path,
                f"{format_path(other[:-1])} is the same server, {address}",
                "remove one of them, and give the other more weight",
            )
    return list(origins)


def _check_protocol(path: Path, upstream: Upstream, report: Report) -> None:
    if upstream.protocol != "http3":
        return
    for i, backend in enumerate(upstream.backends):
        if backend.address.lower().startswith("http://"):
            report.error(
                (*path, "backends", i, "address"),
                "HTTP/3 has no version without TLS, and protocol is http3",
                "write https:// in the address, or set protocol: http2",
                related=((*path, "protocol"),),
            )


def _check_health_checks(path: Path, upstream: Upstream, report: Report) -> None:
    for i, backend in enumerate(upstream.backends):
        if backend.health_check is None:
            continue
        where = (*path, i, "health_check")
        if backend.address.startswith(f"{EMBEDDED_SCHEME}:"):
            report.error(
                where, "an embedded application is not checked: it is there", "remove the key"
            )
        check_health_check(where, backend.health_check, upstream.protocol, report)


def _check_balancing(path: Path, balancing: LoadBalancing, report: Report) -> None:
    hashes = balancing.type in HASHING_TYPES
    type_path = (*path, "type")
    if balancing.key is not None:
        _check_balancing_key((*path, "key"), balancing.key, report)
        if not hashes:
            report.warning(
                (*path, "key"),
                f"{balancing.type} uses no key",
                f"remove it, or use one of {', '.join(HASHING_TYPES)}",
                related=(type_path,),
            )
    if balancing.balance_factor is not None and not hashes:
        report.error(
            (*path, "balance_factor"),
            f"{balancing.type} has no load bound",
            f"remove it, or use one of {', '.join(HASHING_TYPES)}",
            related=(type_path,),
        )


def _check_balancing_key(path: Path, key: str, report: Report) -> None:
    source, colon, name = key.partition(":")
    if source in BALANCING_NAMED_KEYS:
        if not name:
            report.error(path, f"{source} needs a name", f"write {source}:NAME")
        elif source != "query" and not TOKEN.fullmatch(name):
            report.error(path, f"{quoted(name)} is not a name of a {source}")
    elif colon or source not in BALANCING_KEYS:
        named = (f"{kind}:NAME" for kind in BALANCING_NAMED_KEYS)
        report.error(
            path,
            f"{quoted(key)} is not a key to balance by",
            f"use one of {', '.join((*named, *BALANCING_KEYS))}",
        )


def _check_host_policy(path: Path, policy: HostPolicy, report: Report) -> None:
    host_path, mode_path = (*path, "host"), (*path, "mode")
    if policy.host is None:
        if policy.mode == "rewrite":
            report.error(
                mode_path, "rewrite needs a host", "add host beside it", related=(host_path,)
            )
        return
    if policy.mode != "rewrite":
        report.error(
            host_path,
            f"{policy.mode} sends no host of its own",
            "set mode: rewrite, or remove host",
            related=(mode_path,),
        )
    try:
        parse_host(split_port(policy.host)[0])
    except InvalidValueError as error:
        report.error(host_path, error.message, error.remedy)


def _check_upstream_tls(
    path: Path, tls: UpstreamTLS, addresses: list[BackendAddress], report: Report
) -> None:
    _check_tls(path, tls, report)
    if tls.client_certificate and addresses and all(a.scheme != "https" for a in addresses):
        report.error(
            (*path, "client_certificate"),
            "no backend of this upstream is reached over TLS",
            "write https:// in their addresses, or remove the client certificate",
        )


def _check_tls(path: Path, tls: UpstreamTLS, report: Report) -> None:
    check_pair(
        path, tls.client_certificate, "client_certificate", tls.client_key, "client_key", report
    )
    for key in ("ca_file", "ca_dir", "client_certificate", "client_key"):
        if getattr(tls, key) == "":
            report.error((*path, key), "the file name is empty", "remove the key")
    if not tls.verify_certificates:
        report.warning(
            (*path, "verify_certificates"),
            "certificates of backends are not verified",
            "give their authority as ca_file instead",
        )
