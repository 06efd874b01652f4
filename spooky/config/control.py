"""The ``control`` section: how a running Spooky is changed, and what it remembers of it."""

from typing import Annotated, Final

from msgspec import Meta

from spooky.config.fields import Section, described
from spooky.config.report import Report

HISTORY_MAX: Final = 10_000  # each is a small file; a directory of more is slow to read
PROBATION_MIN: Final = 5  # seconds: two pass before traffic counts, and some has to come
PROBATION_MAX: Final = 3_600  # what shows later is not due to the change alone


class Control(Section, frozen=True):
    """How a running Spooky is changed, and what it remembers of it."""

    socket: Annotated[
        str | None,
        described(
            "The Unix socket of `spooky status`, `spooky apply` and the other commands for a "
            "running Spooky; only its own user and root get an answer there. Null for "
            "`spooky/control.sock` under `$XDG_RUNTIME_DIR`, or under `/run`.",
            path=True,
        ),
    ] = None
    state_dir: Annotated[
        str | None,
        described(
            "The directory of the history of changes, and of the keys of tickets, tokens and "
            "resets. Null for the service manager's (`$STATE_DIRECTORY`), else `spooky` under "
            "`$XDG_STATE_HOME`, or `/var/lib/spooky` for root.",
            path=True,
        ),
    ] = None
    history: Annotated[
        int,
        Meta(ge=2, le=HISTORY_MAX),
        described("How many generations are kept, to go back to and to compare with."),
    ] = 50
    probation: Annotated[
        int,
        Meta(ge=0, le=PROBATION_MAX),
        described(
            "How long a change that came in force is watched: if more requests fail with 5xx, "
            "responses become slower, or more handshakes fail than before, it is taken back. 0 for "
            "not at all, else 5 or more; `spooky apply --probation` says otherwise for one change.",
            unit="s",
            hazard="A backend that fails meanwhile takes a good change back.",
        ),
    ] = 0
    watch: Annotated[
        bool,
        described(
            "Whether the configuration file is reloaded when it has changed. Certificates and keys "
            "always are.",
            hazard="What an editor saves half done, and is valid, comes in force.",
        ),
    ] = False


def check_control(control: Control, report: Report) -> None:
    """Report what is wrong with the section."""
    if 0 < control.probation < PROBATION_MIN:
        report.error(
            ("control", "probation"),
            f"{control.probation} s is too short to tell anything",
            f"write {PROBATION_MIN} or more, or 0 for no probation",
        )
