"""An earlier text again, with files as they are now, or else as they are in use."""

import datetime
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as replace_field

from spooky.config.loading import diagnose_text
from spooky.config.problems import Problem, Severity
from spooky.config.schema import Configuration
from spooky.control.admin_credentials import credential_groups, make_credentials, read_group
from spooky.control.candidate import Candidate, restore_candidate
from spooky.control.history import Record
from spooky.control.renewal import file_groups, read_renewal
from spooky.generation.certificates import load_listener_tls
from spooky.generation.materials import MaterialError, Materials, read_available_materials


def restore(record: Record, running: Candidate) -> Candidate:
    """Return what a rollback puts in force: what a generation's text says, overridden as it was.

    Whoever goes back is in a hurry: a certificate that is gone or half written just then does not
    stop them, if it is in use.

    Arguments:
        record: The generation.
        running: What is in force.

    Returns:
        The candidate; a warning for each file that cannot be used as it is now, and for each that
        is not what it was in that generation.

    Raises:
        ConfigurationError: It has errors, by now.
        MaterialError: A certificate or key cannot be used, and is not in use.
    """
    text, path = record.text, record.path
    try:
        restored = restore_candidate(text, path)
        return replace(restored, warnings=_changed(record, restored)).overridden(record.overrides)
    except MaterialError:
        in_use = _with_files_in_use(text, path, running)
        if in_use is None:
            raise
    now = datetime.datetime.now(datetime.UTC)
    renewal = read_renewal(in_use, {}, now)
    kept = (_warning(path, f"{problem}; what is in use stays") for problem in renewal.problems)
    warnings = (*kept, *_changed(record, renewal.candidate))
    return replace(renewal.candidate, warnings=warnings).overridden(record.overrides)


def review(record: Record, running: Candidate) -> Candidate:
    """Return the same with all that is not as it should be, for whoever looks before they go back.

    A rollback is stopped by little, so what it does not look at is only warned of: certificates out
    of date, for instance. The network is asked too, which may take seconds.

    Raises:
        ConfigurationError: It has errors, by now, or an address cannot be bound.
        MaterialError: A certificate or key cannot be used, and is not in use.
    """
    candidate = restore(record, running)
    text, path, directory = record.text, record.path, Path(record.path).parent
    of_network = diagnose_text(text, path, directory=directory, network=True)
    of_network.result()
    of_files = diagnose_text(text, path, directory=directory, files=True)
    warnings = [replace_field(one, severity=Severity.WARNING) for one in of_files.problems]
    every = dict.fromkeys((*candidate.warnings, *warnings, *of_network.warnings))
    return replace(candidate, warnings=tuple(every))


def _changed(record: Record, candidate: Candidate) -> tuple[Problem, ...]:
    """Return a warning for each file that is not what it was in a generation."""
    now = candidate.fingerprints
    return tuple(
        _warning(
            record.path,
            f"{file} has changed since generation {record.number}: it is taken as it is now",
        )
        for file, digest in sorted(record.files.items())
        if file in now and now[file] != digest
    )


def _warning(path: str, message: str) -> Problem:
    return Problem(Severity.WARNING, path, None, None, "", message, "")


def _with_files_in_use(text: str, path: str, running: Candidate) -> Candidate | None:
    """Return a candidate with all that is in use as it is, if the rest can be read."""
    configuration = diagnose_text(text, path, directory=Path(path).parent).result()
    try:
        materials = _materials(configuration, running)
        used, files = running.credentials.files, dict[str, bytes]()
        for group in credential_groups(configuration):
            if used.keys() >= set(group):
                files |= {one: used[one] for one in group}
            else:
                files |= read_group(configuration, group)
        credentials = make_credentials(configuration, materials, files)
        tls = tuple(load_listener_tls(one, materials) for one in configuration.active_listeners)
    except MaterialError:
        # The first error says more: it is of the files as they are.
        return None
    return Candidate(configuration, text, path, materials, tls, configuration, credentials)


def _materials(configuration: Configuration, running: Candidate) -> Materials:
    """Return the files that are in use, a certificate with its key, and of others what is there.

    Raises:
        MaterialError: One can be had in neither way.
    """
    available, errors = read_available_materials(configuration)
    used, files = running.materials.files, dict(available.files)
    groups = file_groups(configuration)
    for group in groups:
        if used.keys() >= group:
            files |= {path: used[path] for path in group}
    if errors and not files.keys() >= set().union(*groups):
        raise errors[0]
    return Materials(files, available.authorities)
