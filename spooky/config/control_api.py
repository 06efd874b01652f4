"""The ``observability.control_api`` section: the control API over TCP, for other machines."""

import ipaddress
import re
from typing import Annotated, Final, Literal

from msgspec import Meta

from spooky.config.fields import Milliseconds, Section, described
from spooky.config.hosts import parse_listener_address
from spooky.config.networks import parse_network
from spooky.config.problems import InvalidValueError, Path, quoted
from spooky.config.report import Report

CONNECTIONS_MAX: Final = 65_536  # each takes a file descriptor
NAME_LENGTH_MAX: Final = 128  # names become fields of the audit log

_PATH: Final[Path] = ("observability", "control_api")

Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
RoleName = Literal["viewer", "operator", "admin"]

PATHS: Final = {
    "health": "/health",
    "ready": "/ready",
    "runtime": "/admin/runtime",
    "restart": "/admin/runtime/restart",
    "reload": "/admin/runtime/reload",
    "reload-certs": "/admin/runtime/reload-certs",
}
"""Endpoints that may be elsewhere, and where they are if nothing is said."""

_KEYS: Final = {name: f"{name.replace('-', '_')}_path" for name in PATHS}
"""The key of each of them."""

_TAKEN: Final = ("/admin/runtime/", "/status/", "/openapi.json/")
"""What the paths of other endpoints begin with."""

_PATH_TEXT: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")

Where = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]

_ROLES: Final = (
    "`viewer` reads; `operator` also reloads, rolls back, and drains or weighs backends; `admin` "
    "also puts other files in force than the one that is."
)


class ControlApiClientAuth(Section, frozen=True):
    """Client certificates of callers."""

    mode: Annotated[
        Literal["disabled", "optional", "required"],
        described(
            "Whether callers are asked for a certificate; `optional` lets those without one show a "
            "bearer token instead."
        ),
    ] = "disabled"
    ca_file: Annotated[
        str | None,
        described("PEM file of the authorities that their certificates must chain to.", path=True),
    ] = None


class ControlApiTls(Section, frozen=True):
    """TLS of the control API; there is no plain HTTP."""

    cert: Annotated[
        str,
        described(
            "PEM file of its certificate and chain; empty for that of the first listener.",
            path=True,
        ),
    ] = ""
    key: Annotated[str, described("PEM file of its private key.", path=True, secret=True)] = ""
    client_auth: Annotated[ControlApiClientAuth, described("Client certificates.")] = (
        ControlApiClientAuth()
    )


class BearerToken(Section, frozen=True):
    """A token that callers show."""

    actor_id: Annotated[
        Name, described("Who shows it, for the audit log and the history.", identity=True)
    ]
    token_file: Annotated[
        str,
        described(
            "The file that holds it, 32 characters or more; readable by nobody but its owner and "
            "group. `openssl rand -hex 32` makes one.",
            path=True,
            secret=True,
        ),
    ]
    role: Annotated[RoleName, described(f"What it may do. {_ROLES}")] = "viewer"


class ClientCertificate(Section, frozen=True):
    """A name in client certificates."""

    name: Annotated[
        Name, described("The name, as `identity_source` finds it, exactly.", identity=True)
    ]
    role: Annotated[RoleName, described(f"What it may do. {_ROLES}")] = "viewer"


class IdentitySource(Section, frozen=True):
    """Where the name of a caller stands in a client certificate."""

    kind: Annotated[
        Literal["mtls_subject_cn", "mtls_san_dns", "mtls_san_uri"],
        described("The common name, or a DNS name or URI among the alternative names."),
    ] = "mtls_san_dns"


class Auth(Section, frozen=True):
    """Who may call."""

    bearer_tokens: Annotated[
        tuple[BearerToken, ...], described("Tokens, one for each caller that shows one.")
    ] = ()
    certificates: Annotated[
        tuple[ClientCertificate, ...],
        described("Names in client certificates; a certificate with none of them is refused."),
    ] = ()
    identity_source: Annotated[
        IdentitySource, described("Where the name stands in a certificate.")
    ] = IdentitySource()


class Authorization(Section, frozen=True):
    """What callers may do without saying who they are."""

    protect_health: Annotated[
        bool, described("Answer `/health` only to callers that may read.")
    ] = False
    protect_ready: Annotated[bool, described("Answer `/ready` only to callers that may read.")] = (
        False
    )


class IpAllowlist(Section, frozen=True):
    """Where callers may be."""

    cidrs: Annotated[
        tuple[str, ...],
        described(
            "Networks, such as `10.1.0.0/16`; connections from elsewhere are closed before TLS. "
            "Empty for everywhere.",
            unordered=True,
        ),
    ] = ()


class Audit(Section, frozen=True):
    """The audit log: a JSON line for every request to the control API, over TCP or the socket."""

    enabled: Annotated[bool, described("Write it.")] = True
    sink: Annotated[
        Literal["log", "file"],
        described("Where it goes: the log (level `info`), or a file of its own."),
    ] = "log"
    file_path: Annotated[
        str | None,
        described("The file; mode 0600, reopened on SIGUSR1.", path=True),
    ] = None


class ControlApi(Section, frozen=True):
    """The control API over TCP and TLS; what the Unix socket answers too."""

    enabled: Annotated[bool, described("Answer over TCP.")] = False
    required: Annotated[
        bool,
        described("Refuse to start when the address cannot be bound, instead of going without."),
    ] = False
    address: Annotated[
        str,
        described(
            "IP address to listen on; one that other machines can reach needs tokens or client "
            "certificates. Without either, callers from this machine may read."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), described("TCP port; 0 takes a free one.")] = 9902
    health_path: Annotated[Where, described("Where it says that it lives.")] = PATHS["health"]
    ready_path: Annotated[Where, described("Where it says whether clients should come.")] = PATHS[
        "ready"
    ]
    runtime_path: Annotated[Where, described("Where it shows what runs.")] = PATHS["runtime"]
    restart_path: Annotated[Where, described("Where new workers are asked for.")] = PATHS["restart"]
    reload_path: Annotated[Where, described("Where a reload is asked for.")] = PATHS["reload"]
    reload_certs_path: Annotated[
        Where, described("Where certificates are taken as the files are now.")
    ] = PATHS["reload-certs"]
    max_connections: Annotated[
        int,
        Meta(ge=1, le=CONNECTIONS_MAX),
        described("Connections at once, handshakes included; more are closed."),
    ] = 256
    connection_timeout_ms: Annotated[
        Milliseconds,
        described("A connection is closed after this time, unless a change is being made for it."),
    ] = 30_000
    tls: Annotated[ControlApiTls, described("TLS.")] = ControlApiTls()
    auth: Annotated[Auth, described("Who may call.")] = Auth()
    authorization: Annotated[
        Authorization, described("What callers may do without saying who they are.")
    ] = Authorization()
    ip_allowlist: Annotated[IpAllowlist, described("Where callers may be.")] = IpAllowlist()
    audit: Annotated[Audit, described("The audit log.")] = Audit()

    @property
    def paths(self) -> dict[str, str]:
        """Where each endpoint is that may be elsewhere, by its name."""
        return {name: getattr(self, _KEYS[name]) for name in PATHS}

    @property
    def authenticates(self) -> bool:
        """Whether callers must say who they are."""
        return bool(self.auth.bearer_tokens) or self.tls.client_auth.mode != "disabled"


def check_control_api(api: ControlApi, report: Report) -> None:
    """Report what is wrong with the control API."""
    if api.required and not api.enabled:
        report.error(
            (*_PATH, "required"),
            "the control API is required but not enabled",
            "set enabled: true, or remove this",
            related=((*_PATH, "enabled"),),
        )
    _check_paths(api, report)
    _check_address(api, report)
    _check_tls(api, report)
    _check_auth(api.auth, report)
    for place, cidr in enumerate(api.ip_allowlist.cidrs):
        try:
            parse_network(cidr)
        except InvalidValueError as error:
            report.error((*_PATH, "ip_allowlist", "cidrs", place), error.message, error.remedy)
    audit = (*_PATH, "audit")
    if api.audit.sink == "file" and not api.audit.file_path:
        report.error(
            (*audit, "file_path"), "the audit log has no file", "name one, or set sink: log",
            related=((*audit, "sink"),),
        )  # fmt: skip
    if api.audit.sink == "log" and api.audit.file_path is not None:
        report.error(
            (*audit, "file_path"), "it would not be written", "set sink: file, or remove this",
            related=((*audit, "sink"),),
        )  # fmt: skip


def _check_paths(api: ControlApi, report: Report) -> None:
    first: dict[str, str] = {}
    for name, path in api.paths.items():
        where = (*_PATH, _KEYS[name])
        if not _PATH_TEXT.fullmatch(path) or not {".", ".."}.isdisjoint(path.split("/")):
            report.error(where, f"{quoted(path)} is not a path", f"write {PATHS[name]}")
        elif path not in PATHS.values() and f"{path}/".startswith(_TAKEN):
            report.error(where, f"other endpoints are at {quoted(path)}", f"write {PATHS[name]}")
        elif path in first:
            report.error(
                where,
                f"{_KEYS[first[path]]} is {quoted(path)} too",
                "give each a path of its own",
                related=((*_PATH, _KEYS[first[path]]),),
            )
        first.setdefault(path, name)


def _check_address(api: ControlApi, report: Report) -> None:
    try:
        address = parse_listener_address(api.address)
    except InvalidValueError as error:
        report.error((*_PATH, "address"), error.message, error.remedy)
        return
    if api.enabled and not api.authenticates and not ipaddress.ip_address(address).is_loopback:
        report.error(
            (*_PATH, "address"),
            f"other machines can reach {address}, and the control API asks nobody who they are",
            "write 127.0.0.1, or set auth.bearer_tokens or tls.client_auth",
            related=((*_PATH, "auth"), (*_PATH, "tls")),
        )


def _check_tls(api: ControlApi, report: Report) -> None:
    path, tls = (*_PATH, "tls"), api.tls
    if bool(tls.cert) != bool(tls.key):
        missing = "key" if tls.cert else "cert"
        report.error(
            path, f"{missing} is missing", "name both files, or neither for the first listener's",
            related=((*path, "cert"), (*path, "key")),
        )  # fmt: skip
    mode, path = tls.client_auth.mode, (*path, "client_auth")
    if mode == "disabled":
        if api.auth.certificates:
            report.error(
                (*_PATH, "auth", "certificates"),
                "no caller is asked for a certificate",
                "set tls.client_auth.mode: required, or remove this",
                related=((*path, "mode"),),
            )
        return
    if not tls.client_auth.ca_file:
        report.error(
            (*path, "ca_file"), f"client certificates are {mode}, and nothing says which count",
            "name the authorities' file", related=((*path, "mode"),),
        )  # fmt: skip
    if not api.auth.certificates:
        report.error(
            (*path, "mode"),
            "no certificate has a role",
            "name those that may call in auth.certificates",
            related=((*_PATH, "auth"),),
        )
    if mode == "optional" and not api.auth.bearer_tokens:
        report.error(
            (*path, "mode"),
            "callers without a certificate have no token to show instead",
            "set mode: required, or add auth.bearer_tokens",
            related=((*_PATH, "auth"),),
        )


def _check_auth(auth: Auth, report: Report) -> None:
    for key, names in (
        ("bearer_tokens", [one.actor_id for one in auth.bearer_tokens]),
        ("certificates", [one.name for one in auth.certificates]),
    ):
        for place, name in enumerate(names):
            if name in names[:place]:
                report.error(
                    (*_PATH, "auth", key, place),
                    f"{quoted(name)} is there twice",
                    "give each its own name",
                )
