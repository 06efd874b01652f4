"""An earlier text again, with files as they are now, or else as they are in use."""

import datetime
from dataclasses import replace
from pathlib import Path

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
        The candidate; for each file that cannot be used as it is now, a warning that says why.

    Raises:
        ConfigurationError: It has errors, by now.
        MaterialError: A certificate or key cannot be used, and is not in use.
    """
    text, path = record.text, record.path
    try:
        return restore_candidate(text, path).overridden(record.overrides)
    except MaterialError:
        restored = _with_files_in_use(text, path, running)
        if restored is None:
            raise
    now = datetime.datetime.now(datetime.UTC)
    renewal = read_renewal(restored, {}, now)
    warnings = tuple(
        Problem(Severity.WARNING, path, None, None, "", f"{problem}; what is in use stays", "")
        for problem in renewal.problems
    )
    return replace(renewal.candidate, warnings=warnings).overridden(record.overrides)


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
