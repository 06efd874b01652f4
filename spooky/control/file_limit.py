"""How many files this process and its workers may have open."""

import resource


def allow_many_files() -> None:
    """Raise the limit on open files as far as it goes; each TCP connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
