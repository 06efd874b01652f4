"""The ``control`` section: how a running Spooky is changed, and what it remembers of it."""

from typing import Annotated, Final

from msgspec import Meta

from spooky.config.fields import Section, described

HISTORY_MAX: Final = 10_000  # each is a small file; a directory of more is slow to read


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
            "The directory of the history of changes. Null for the service manager's "
            "(`$STATE_DIRECTORY`), else `spooky` under `$XDG_STATE_HOME`, or `/var/lib/spooky` "
            "for root.",
            path=True,
        ),
    ] = None
    history: Annotated[
        int,
        Meta(ge=2, le=HISTORY_MAX),
        described("How many generations are kept, to go back to and to compare with."),
    ] = 50
