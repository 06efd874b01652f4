"""The rules that the type of one value cannot say: listeners and their certificates."""

from spooky.config.client_address import check_client_address
from spooky.config.hosts import parse_listener_address, parse_server_name
from spooky.config.listener_tls import Certificate, ClientAuth, ListenerTLS
from spooky.config.problems import InvalidValueError, Path, format_path
from spooky.config.report import Report
from spooky.config.schema import Configuration, Listener


def check_listeners(configuration: Configuration, report: Report) -> None:
    """Report what is wrong with the listeners in force."""
    active: list[tuple[Path, Listener]] = [
        (("listeners", i), listener) for i, listener in enumerate(configuration.listeners)
    ]
    if not active and configuration.listen is not None:
        active = [(("listen",), configuration.listen)]
    if not active:
        report.error(
            (),
            "there is no listener",
            "add listen, with tls.cert and tls.key",
            related=(("listen",), ("listeners",)),
        )
    if configuration.listeners and configuration.listen is not None:
        report.warning(
            ("listen",),
            "this listener is not used, because there are listeners",
            "remove it, or move it to listeners",
        )
    for path, listener in active:
        _check_listener(path, listener, report)


def _check_listener(path: Path, listener: Listener, report: Report) -> None:
    _check_listener_tls((*path, "tls"), listener.tls, report)
    check_client_address((*path, "client_address"), listener.client_address, report)
    try:
        parse_listener_address(listener.address)
    except InvalidValueError as error:
        report.error((*path, "address"), error.message, error.remedy)


def _check_listener_tls(path: Path, tls: ListenerTLS, report: Report) -> None:
    cert, key = (*path, "cert"), (*path, "key")
    certificates = (*path, "certificates")
    if not tls.cert and not tls.key and not tls.certificates:
        report.error(
            path,
            "the listener has no certificate",
            "give cert and key; `spooky proxy` makes a certificate of its own, for trying out",
            related=(cert, key, certificates),
        )
    check_pair(path, tls.cert, "cert", tls.key, "key", report)
    _check_certificates(certificates, tls.certificates, report)
    _check_client_auth((*path, "client_auth"), tls.client_auth, report)
    for i, certificate in enumerate(tls.certificates):
        if certificate.client_auth is not None:
            _check_client_auth((*certificates, i, "client_auth"), certificate.client_auth, report)


def _check_certificates(path: Path, certificates: tuple[Certificate, ...], report: Report) -> None:
    names: dict[str, Path] = {}
    for i, certificate in enumerate(certificates):
        for part in ("cert", "key"):
            if not getattr(certificate, part):
                report.error((*path, i, part), "the file name is empty")
        name_path = (*path, i, "server_name")
        if report.is_broken(name_path):
            continue
        try:
            name = parse_server_name(certificate.server_name)
        except InvalidValueError as error:
            report.error(name_path, error.message, error.remedy)
            continue
        other = names.setdefault(name, name_path)
        if other != name_path:
            report.error(
                name_path,
                f"{format_path(other)} is the same name",
                "keep one certificate for a name",
            )


def _check_client_auth(path: Path, auth: ClientAuth, report: Report) -> None:
    if auth.require_client_cert and not auth.enabled:
        report.error(
            (*path, "require_client_cert"),
            "client certificates are required but not enabled",
            "set enabled: true, or remove this",
            related=((*path, "enabled"),),
        )
    if auth.enabled and not auth.ca_file:
        report.error(
            (*path, "ca_file"),
            "client certificates are enabled but there are no authorities to verify them",
            "give a PEM file of authorities",
            related=((*path, "enabled"),),
        )


def check_pair(
    path: Path, first: str | None, first_name: str, second: str | None, second_name: str,
    report: Report,
) -> None:  # fmt: skip
    """Report a certificate without its key, or a key without its certificate."""
    for one, one_name, other, other_name in (
        (first, first_name, second, second_name),
        (second, second_name, first, first_name),
    ):
        if one and not other:
            report.error(
                (*path, one_name),
                f"{one_name} is given without {other_name}",
                f"give {other_name} too",
                related=((*path, other_name),),
            )
