"""The ``security`` section: what the processes that serve clients give up."""

import grp
import pwd
from typing import Annotated

from spooky.config.fields import Section, described
from spooky.config.problems import Path, quoted
from spooky.config.report import Report

_PATH: Path = ("security", "privileges")


class Privileges(Section, frozen=True):
    """Whose the workers are."""

    enabled: Annotated[
        bool,
        described(
            "Where `spooky serve` is started by root, have the workers be `user`'s. The "
            "supervisor, which talks to no client, stays root, to read renewed keys and bind new "
            "ports. Started by another user, all is that user's.",
            hazard="Off: a client that takes over a worker of root is root.",
        ),
    ] = True
    user: Annotated[
        str, described("The user: a name, or a number. It needs to be able to do nothing.")
    ] = "nobody"
    group: Annotated[str | None, described("The group, likewise; null for the user's own.")] = None


class Security(Section, frozen=True):
    """What `spooky serve` gives up once it has begun."""

    privileges: Annotated[Privileges, described("Whose the workers are.")] = Privileges()
    sandbox: Annotated[
        bool,
        described(
            "Where the kernel can: have workers open no file but Python's modules, by Landlock, "
            "and filter their system calls, by seccomp. Always, they have no capability, gain "
            "none, and leave no core dump.",
            hazard="Off: a client that takes over a worker can do whatever the worker's user may.",
        ),
    ] = True


class UnknownNameError(LookupError):
    """There is no such user or group on this machine; the text says which."""


def numbers_of(privileges: Privileges) -> tuple[int, int]:
    """Return the numbers of the user and the group.

    Raises:
        UnknownNameError: One is not known here.
    """
    try:
        if privileges.user.isdecimal():
            user = int(privileges.user)
            group = pwd.getpwuid(user).pw_gid if privileges.group is None else -1
        else:
            entry = pwd.getpwnam(privileges.user)
            user, group = entry.pw_uid, entry.pw_gid
    except KeyError as error:
        raise UnknownNameError(f"there is no user {privileges.user}") from error
    if privileges.group is not None:
        try:
            group = (
                int(privileges.group)
                if privileges.group.isdecimal()
                else grp.getgrnam(privileges.group).gr_gid
            )
        except KeyError as error:
            raise UnknownNameError(f"there is no group {privileges.group}") from error
    return user, group


def check_privileges(privileges: Privileges, report: Report) -> None:
    """Report a user that workers cannot be, or should not."""
    for key, value in (("user", privileges.user), ("group", privileges.group)):
        if value == "":
            report.error((*_PATH, key), "the name is empty", "write one, or remove this")
            return
    if not privileges.enabled:
        return
    for key, value in (("user", privileges.user), ("group", privileges.group)):
        if value in ("root", "0"):
            report.error(
                (*_PATH, key),
                f"{quoted(value)} gives nothing up",
                "name another, or set enabled: false",
                related=((*_PATH, "enabled"),),
            )


def check_names(privileges: Privileges, report: Report, *, is_root: bool) -> None:
    """Report a user that this machine does not know.

    Arguments:
        is_root: Whether whoever checks could become it: an error then, else a warning.
    """
    if not privileges.enabled:
        return
    try:
        numbers_of(privileges)
    except UnknownNameError as error:
        say = report.error if is_root else report.warning
        say((*_PATH, "user"), str(error), "name one that exists, or make it")
