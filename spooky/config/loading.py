"""Loading: from a file, a text or a mapping to a configuration, or all that is wrong with it."""

import datetime
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath

from msgspec import Struct

from spooky.config.document import Node, decode, from_python, read_yaml
from spooky.config.positions import Positions
from spooky.config.problems import ConfigurationError, Problem, Severity
from spooky.config.reading import read_configuration
from spooky.config.report import Report
from spooky.config.rules import check
from spooky.config.schema import Configuration


class Diagnosis(Struct, frozen=True):
    """What came of reading a configuration.

    Attributes:
        configuration: The configuration; ``None`` if there are errors.
        problems: Errors and warnings, in the order of the file.
        positions: Where its values are in the text.
        file: Name of the file, or what stands for it.
        source: The text; empty if it did not come from one.
    """

    configuration: Configuration | None
    problems: list[Problem]
    positions: Positions
    file: str
    source: str

    def result(self) -> Configuration:
        """Return the configuration.

        Raises:
            ConfigurationError: It has errors.
        """
        if self.configuration is None:
            raise ConfigurationError(self.problems, self.source)
        return self.configuration

    @property
    def warnings(self) -> list[Problem]:
        """The problems that do not keep it from being used."""
        return [problem for problem in self.problems if problem.severity is Severity.WARNING]


def load(path: str | Path, apps: Collection[str] = ()) -> Configuration:
    """Load a configuration file.

    Arguments:
        path: The file. Relative file names in it start at its directory.
        apps: Names of the applications embedded with Spooky.

    Raises:
        ConfigurationError: It cannot be read or has errors; carries all of them.
    """
    return diagnose(path, apps).result()


def load_text(text: str, name: str = "<text>", apps: Collection[str] = ()) -> Configuration:
    """Load a configuration from YAML text.

    Arguments:
        text: The text. Relative file names in it are left as they are.
        name: What stands for the file in problems.
        apps: As for ``load``.

    Raises:
        ConfigurationError: It has errors; carries all of them.
    """
    return diagnose_text(text, name, apps).result()


def from_mapping(mapping: Mapping[str, object], apps: Collection[str] = ()) -> Configuration:
    """Make a configuration of a mapping of plain Python values, for embedding.

    Arguments:
        mapping: What a file would say.
        apps: As for ``load``.

    Raises:
        ConfigurationError: It has errors; carries all of them, without lines and columns.
    """
    return diagnose_mapping(mapping, apps).result()


def diagnose(
    path: str | Path,
    apps: Collection[str] = (),
    *,
    files: bool = False,
    network: bool = False,
    known: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Load a configuration file and say all that is wrong with it.

    Arguments:
        path: As for ``load``.
        apps: As for ``load``.
        files: Also check the files that it names as they are now, certificates above all.
        network: Also check whether addresses can be bound now, and names of backends resolve.
        known: Of the network, only check names of backends; those here are not asked for, and have
            why they do not resolve, or nothing.
    """
    path = Path(path)
    report = Report(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        report.broken((), f"cannot read the file: {error.strerror}", "`spooky init` writes one")
        return _failed(report, "")
    text = decode(data, report)
    if text is None:
        return _failed(report, "")
    return _diagnose_text(text, path.absolute().parent, apps, report, files, network, known)


def diagnose_text(
    text: str,
    name: str = "<text>",
    apps: Collection[str] = (),
    *,
    directory: PurePath | None = None,
    files: bool = False,
    network: bool = False,
) -> Diagnosis:
    """Load YAML text and say all that is wrong with it.

    Arguments:
        text: The text.
        name: What stands for the file in problems.
        apps: As for ``load``.
        directory: Where relative file names in it start; ``None`` to leave them as they are.
        files: As for :func:`diagnose`.
        network: As for :func:`diagnose`.
    """
    return _diagnose_text(text, directory, apps, Report(name), files, network)


def diagnose_mapping(mapping: Mapping[str, object], apps: Collection[str] = ()) -> Diagnosis:
    """Say all that is wrong with a mapping; arguments as for ``from_mapping``."""
    report = Report("<mapping>")
    return _diagnose(from_python(mapping, report), None, apps, report, "")


def _diagnose_text(
    text: str,
    directory: PurePath | None,
    apps: Collection[str],
    report: Report,
    files: bool = False,
    network: bool = False,
    known: Mapping[str, str] | None = None,
) -> Diagnosis:
    root = read_yaml(text, report)
    if root is None:
        return _failed(report, text)
    return _diagnose(root, directory, apps, report, text, files, network, known)


def _diagnose(
    root: Node,
    directory: PurePath | None,
    apps: Collection[str],
    report: Report,
    source: str,
    files: bool = False,
    network: bool = False,
    known: Mapping[str, str] | None = None,
) -> Diagnosis:
    report.positions.add((), None, root.place)
    configuration = read_configuration(root, directory, report)
    check(configuration, apps, report)
    if files:
        # Only here, because it needs cryptography, which takes long to import.
        from spooky.config.world import check_world

        check_world(configuration, report, datetime.datetime.now(datetime.UTC))
    if network:
        from spooky.config.network import check_network

        check_network(configuration, report)
    elif known is not None:
        from spooky.config.network import check_new_names

        check_new_names(configuration, known, report)
    if report.has_errors:
        return _failed(report, source)
    return Diagnosis(configuration, report.problems, report.positions, report.file, source)


def _failed(report: Report, source: str) -> Diagnosis:
    return Diagnosis(None, report.problems, report.positions, report.file, source)
