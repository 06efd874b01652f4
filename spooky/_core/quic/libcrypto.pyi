"""Opens the system's libcrypto and checks that it has all that the engine calls."""

NAME: str

def load(name: str) -> None:
    """Open a library, and call its functions from now on.

    Arguments:
        name: As the dynamic linker searches it.

    Raises:
        LookupError: It is not there, or lacks something; nothing changed.
    """

def version() -> str | None:
    """Return what the library calls itself, or ``None`` if there is none."""
