"""What a configuration needs of the machine: files that exist, certificates that fit their keys.

Apart from the rules because it reads the disk, and because its answers change with time.
"""

import datetime
import os
import stat
from pathlib import Path as FilePath
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from spooky.config.files import certificate_names, names_cover
from spooky.config.listener_tls import ClientAuth, ListenerTLS
from spooky.config.problems import Path, quoted
from spooky.config.report import Report
from spooky.config.schema import Configuration, UpstreamTLS
from spooky.config.security import check_names

MAX_PEM_BYTES: Final = 1 << 20  # no certificate or key is larger; a file named by mistake may be
EXPIRES_SOON: Final = datetime.timedelta(days=14)
CA_FILE_SUFFIXES: Final = (".pem", ".crt")


def check_world(configuration: Configuration, report: Report, now: datetime.datetime) -> None:
    """Report what is wrong with the files that a configuration names.

    Arguments:
        configuration: As read; values that could not be read have stand-ins.
        report: Where problems go.
        now: The time that certificates are held against, with a time zone.
    """
    world = _World(report, now)
    for i, listener in enumerate(configuration.listeners):
        world.check_listener_tls(("listeners", i, "tls"), listener.tls)
    if not configuration.listeners and configuration.listen is not None:
        world.check_listener_tls(("listen", "tls"), configuration.listen.tls)
    world.check_upstream_tls(("upstream_tls",), configuration.upstream_tls)
    for name, upstream in configuration.upstream.items():
        if upstream.tls is not None:
            world.check_upstream_tls(("upstream", name, "tls"), upstream.tls)
    if configuration.log.file.enabled:
        world.check_log_file(("log", "file", "path"), configuration.log.file.path)
    if configuration.access_log.enabled and configuration.access_log.path:
        world.check_log_file(("access_log", "path"), configuration.access_log.path)
    check_names(configuration.security.privileges, report, is_root=os.geteuid() == 0)


class _World:
    def __init__(self, report: Report, now: datetime.datetime) -> None:
        self._report = report
        self._now = now

    def check_listener_tls(self, path: Path, tls: ListenerTLS) -> None:
        """Check the certificates of a listener."""
        chain = self._check_pair((*path, "cert"), tls.cert, (*path, "key"), tls.key)
        if chain and tls.strict_authority and not certificate_names(chain[0]):
            self._report.warning(
                (*path, "cert"),
                "the certificate names no host, so that clients may ask for every one over it",
                "have one made with subject alternative names",
                related=((*path, "strict_authority"),),
            )
        for i, certificate in enumerate(tls.certificates):
            place = (*path, "certificates", i)
            chain = self._check_pair(
                (*place, "cert"), certificate.cert, (*place, "key"), certificate.key
            )
            names = certificate_names(chain[0]) if chain else []
            if chain and not names_cover(names, certificate.server_name):
                self._report.error(
                    (*place, "server_name"),
                    f"the certificate does not cover {quoted(certificate.server_name)}",
                    f"it covers {', '.join(names) or 'no name'}",
                )
            if certificate.client_auth is not None:
                self._check_client_auth((*place, "client_auth"), certificate.client_auth)
        self._check_client_auth((*path, "client_auth"), tls.client_auth)

    def check_upstream_tls(self, path: Path, tls: UpstreamTLS) -> None:
        """Check the authorities and the client certificate towards backends."""
        if tls.ca_file:
            self._check_authorities((*path, "ca_file"), tls.ca_file)
        if tls.ca_dir:
            self._check_directory((*path, "ca_dir"), tls.ca_dir)
        self._check_pair(
            (*path, "client_certificate"), tls.client_certificate or "",
            (*path, "client_key"), tls.client_key or "",
        )  # fmt: skip

    def check_log_file(self, path: Path, file: str) -> None:
        """Check that a log file can be written."""
        target = file if os.path.exists(file) else os.path.dirname(file) or "."
        if os.path.isdir(file):
            self._report.error(path, f"{file} is a directory", "name a file in it")
        elif not os.path.exists(target):
            self._report.error(path, f"the directory {target} does not exist", "create it")
        elif not os.access(target, os.W_OK):
            self._report.warning(
                path, f"whoever runs this check may not write {target}", "the service has to"
            )

    def _check_client_auth(self, path: Path, auth: ClientAuth) -> None:
        if auth.enabled and auth.ca_file:
            self._check_authorities((*path, "ca_file"), auth.ca_file)

    def _check_pair(
        self, cert_path: Path, cert_file: str, key_path: Path, key_file: str
    ) -> list[x509.Certificate]:
        """Check a certificate chain and its key, where both are named; return it if it fits."""
        chain = self._read_certificates(cert_path, cert_file) if cert_file else []
        key = self._read_key(key_path, key_file) if key_file else None
        for certificate in chain:
            self._check_dates(cert_path, certificate)
        if chain and key is not None and not _fits(chain[0], key):
            remedy = "name the key that the certificate was made for"
            if any(_fits(certificate, key) for certificate in chain[1:]):
                remedy = "put the server's own certificate first in its file"
            self._report.error(
                key_path, f"the key does not fit the certificate in {cert_file}", remedy,
                related=(cert_path,),
            )  # fmt: skip
            return []
        return chain

    def _check_dates(self, path: Path, certificate: x509.Certificate) -> None:
        name = certificate.subject.rfc4514_string() or "without subject"
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self._now > end:
            self._report.error(
                path, f"the certificate {quoted(name)} expired on {end:%Y-%m-%d}", "renew it"
            )
        elif self._now < start:
            self._report.error(
                path,
                f"the certificate {quoted(name)} is not valid before {start:%Y-%m-%d %H:%M} UTC",
                "check the clock of this machine",
            )
        elif self._now > end - EXPIRES_SOON:
            self._report.warning(
                path,
                f"the certificate {quoted(name)} expires on {end:%Y-%m-%d}, "
                f"in {(end - self._now).days} days",
                "renew it",
            )

    def _check_authorities(self, path: Path, file: str) -> None:
        for certificate in self._read_certificates(path, file):
            self._check_dates(path, certificate)

    def _check_directory(self, path: Path, directory: str) -> None:
        try:
            files = sorted(
                file for file in FilePath(directory).iterdir() if file.suffix in CA_FILE_SUFFIXES
            )
        except OSError as error:
            self._report.error(path, f"{directory}: {error.strerror}")
            return
        if not files:
            self._report.error(path, f"{directory} has no file that ends in .pem or .crt")
        for file in files:
            self._check_authorities(path, str(file))

    def _read_certificates(self, path: Path, file: str) -> list[x509.Certificate]:
        data = self._read(path, file)
        if data is None:
            return []
        try:
            return x509.load_pem_x509_certificates(data)
        except ValueError:
            remedy = "the file starts with -----BEGIN CERTIFICATE-----"
            if b"PRIVATE KEY-----" in data:
                remedy = "this is a private key; certificate and key are exchanged"
            elif not data.startswith(b"-----") and data[:1] == b"\x30":
                remedy = f"this is DER: openssl x509 -inform der -in {file} -out cert.pem"
            self._report.error(path, f"{file} is not a certificate in PEM", remedy)
            return []

    def _read_key(self, path: Path, file: str) -> PrivateKeyTypes | None:
        data = self._read(path, file)
        if data is None:
            return None
        try:
            key = load_pem_private_key(data, password=None)
        except TypeError:
            self._report.error(
                path, f"{file} is encrypted", f"openssl pkey -in {file} -out key.pem decrypts it"
            )
        except (ValueError, UnsupportedAlgorithm):
            remedy = "the file starts with -----BEGIN PRIVATE KEY-----, or RSA or EC before PRIVATE"
            if b"BEGIN CERTIFICATE" in data:
                remedy = "this is a certificate; certificate and key are exchanged"
            self._report.error(path, f"{file} is not a private key in PEM", remedy)
        else:
            if os.stat(file).st_mode & stat.S_IROTH:
                self._report.warning(
                    path, f"everybody on this machine can read {file}", f"chmod o-r {file}"
                )
            return key
        return None

    def _read(self, path: Path, file: str) -> bytes | None:
        try:
            status = os.stat(file)
            if not stat.S_ISREG(status.st_mode):
                self._report.error(path, f"{file} is not a file")
                return None
            if status.st_size > MAX_PEM_BYTES:
                self._report.error(
                    path, f"{file} has {status.st_size} bytes: that is no certificate or key"
                )
                return None
            return FilePath(file).read_bytes()
        except OSError as error:
            self._report.error(path, f"{file}: {error.strerror}", _file_remedy(error))
            return None


def _file_remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "relative names start at the directory of the configuration file"
    if isinstance(error, PermissionError):
        return "run the check as the user that runs the service"
    return ""


def _fits(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return certificate.public_key().public_bytes(*encoding) == key.public_key().public_bytes(
            *encoding
        )
    except (ValueError, UnsupportedAlgorithm):
        return False
