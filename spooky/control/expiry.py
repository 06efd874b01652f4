"""Warnings of certificates that expire: each certificate and each warning once."""

import datetime
import logging
from typing import Final

from spooky.config.files import CertificateFacts, describe_files
from spooky.control.candidate import Candidate

logger = logging.getLogger(__name__)

WARNINGS: Final = (
    datetime.timedelta(0),
    datetime.timedelta(days=1),
    datetime.timedelta(days=7),
    datetime.timedelta(days=30),
)
"""How long before the end is warned: renewal that is automatic comes at 30 days of 90."""


class ExpiryWarnings:
    """Knows what has been said."""

    def __init__(self) -> None:
        self._said: dict[str, datetime.timedelta] = {}

    def look(self, running: Candidate, now: datetime.datetime) -> None:
        """Warn of the certificates in use, listeners' and those towards backends.

        Arguments:
            running: What is in force.
            now: The time, with a time zone.
        """
        for path, facts in describe_files(running.materials.files).items():
            if facts.certificate is not None:
                self._warn(path, facts.certificate, now)

    def _warn(self, path: str, certificate: CertificateFacts, now: datetime.datetime) -> None:
        left = certificate.not_after - now
        due = next((warning for warning in WARNINGS if left <= warning), None)
        if due is None or self._said.get(certificate.fingerprint) == due:
            return
        self._said[certificate.fingerprint] = due
        names = f" for {', '.join(certificate.names)}" if certificate.names else ""
        end = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
        if left <= WARNINGS[0]:
            logger.error("the certificate%s in %s expired on %s", names, path, end)
        else:
            hours = int(left.total_seconds() // 3600)
            rest = f"{left.days} days" if left.days > 1 else f"{hours} hours"
            logger.warning("the certificate%s in %s expires on %s, in %s", names, path, end, rest)
