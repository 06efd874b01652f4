"""A configuration that may come in force, with everything that was read for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from spooky.config.loading import diagnose, diagnose_text
from spooky.config.problems import Problem
from spooky.config.schema import Configuration
from spooky.control.admin_credentials import AdminCredentials, read_credentials
from spooky.control.overrides import Overrides, overridden_settings, override, remaining
from spooky.control.plan import Snapshot
from spooky.generation.certificates import ListenerTls, load_listener_tls
from spooky.generation.materials import MaterialError, Materials, read_materials


@dataclass(frozen=True)
class Candidate:
    """A configuration, valid as far as can be told without putting it in force.

    Attributes:
        configuration: What it says, overridden.
        text: It as YAML; empty if it did not come from a text.
        path: The file that it came from, absolute; empty if it did not come from a file.
        materials: The files that it names.
        tls: What each active listener presents and demands, in their order.
        written: What it says, without overrides.
        credentials: What the control API over TCP presents and expects; not for workers.
        overrides: What of it is overridden; nothing that it says itself.
        warnings: What is not as it should be in the file, and does not keep it from being used.
    """

    configuration: Configuration
    text: str
    path: str
    materials: Materials
    tls: tuple[ListenerTls, ...]
    written: Configuration
    credentials: AdminCredentials = field(default_factory=AdminCredentials)
    overrides: Overrides = ()
    warnings: tuple[Problem, ...] = ()

    def overridden(self, overrides: Overrides) -> "Candidate":
        """Return it with these overrides in place of its own, as far as it says otherwise."""
        left = remaining(self.written, overrides)
        return replace(self, configuration=override(self.written, left), overrides=left)

    @property
    def contents(self) -> dict[str, bytes]:
        """The content of each file that it names, by path, and digests in place of tokens."""
        return {**self.materials.files, **self.credentials.files}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of each file that it names, by path; hexadecimal."""
        files = self.materials.files.items()
        return {path: hashlib.sha256(content).hexdigest() for path, content in files}


def snapshot_of(candidate: Candidate, number: int | None = None) -> Snapshot:
    """Return what a plan goes by; ``number`` is the generation's, if it is in force."""
    overrides = tuple(overridden_settings(candidate.written, candidate.overrides))
    return Snapshot(
        candidate.configuration, candidate.materials, number, overrides, candidate.credentials.files
    )


def read_candidate(
    path: Path,
    *,
    files: bool = False,
    network: bool = False,
    known: Mapping[str, str] | None = None,
) -> Candidate:
    """Read a configuration file, and the files that it names.

    Arguments:
        path: The file.
        files: Also check all that can be of the files that it names, such as the dates of
            certificates: for a change, not for a start, since an old certificate serves better
            than none.
        network: Also check whether addresses can be bound now, and names of backends resolve, which
            may take seconds.
        known: Of the network, only check names of backends; those here are not asked for, and have
            why they do not resolve, or nothing.

    Raises:
        ConfigurationError: It cannot be read or has errors; carries all of them.
        MaterialError: A certificate or key cannot be used.
    """
    path = path.absolute()
    diagnosis = diagnose(path, files=files, network=network, known=known)
    candidate = make_candidate(diagnosis.result(), diagnosis.source, str(path))
    return replace(candidate, warnings=tuple(diagnosis.warnings))


def read_change(path: Path, network: bool, known: Mapping[str, str] | None) -> Candidate:
    """Read a file for a change; raises as :func:`read_candidate`, which says what is taken."""
    if path.exists() and not path.is_file():
        # A pipe would keep every other change waiting without end.
        raise MaterialError(f"{path} is not a regular file")
    return read_candidate(path, files=True, network=network, known=known)


def restore_candidate(text: str, path: str) -> Candidate:
    """Return what a text said that was read from a file before, with the files as they are now.

    Raises:
        ConfigurationError: It has errors, by now.
        MaterialError: A certificate or key cannot be used.
    """
    diagnosis = diagnose_text(text, path, directory=Path(path).parent)
    return make_candidate(diagnosis.result(), text, path)


def inherit_candidate(text: str, path: str, materials: Materials) -> Candidate:
    """Return what is in force in another program, with the files as it has them.

    Raises:
        ConfigurationError: It is not valid for this one.
        MaterialError: A certificate or key cannot be used.
    """
    configuration = diagnose_text(text, path, directory=Path(path).parent).result()
    return _with_materials(configuration, text, path, materials)


def make_candidate(configuration: Configuration, text: str = "", path: str = "") -> Candidate:
    """Read the files that a configuration names.

    Arguments:
        configuration: Valid.
        text: What it came from.
        path: Where that came from, absolute.

    Raises:
        MaterialError: A certificate or key cannot be used.
    """
    return _with_materials(configuration, text, path, read_materials(configuration))


def _with_materials(
    configuration: Configuration, text: str, path: str, materials: Materials
) -> Candidate:
    tls = tuple(
        load_listener_tls(listener, materials) for listener in configuration.active_listeners
    )
    credentials = read_credentials(configuration, materials)
    return Candidate(configuration, text, path, materials, tls, configuration, credentials)
