"""The ``security`` section: what the processes that serve clients give up."""

import grp
import pwd
from typing import Annotated, Final

from spooky.config.fields import Section, described
from spooky.config.problems import Path, quoted
from spooky.config.report import Report

_PATH: Path = ("security", "privileges")

_DEFAULT_USER: Final = "nobody"
"""Whose workers are if nobody says so, where that can be."""

_IDS_MAX: Final = 2**32 - 2
"""The greatest number of a user or group; the next means "as before" to the kernel."""


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
        str | None,
        described(
            "The user: a name, or a number. It needs to be able to do nothing but read Python's "
            "modules. Null for `nobody`, or root without capabilities where root lacks what it "
            "takes to become that; a user that is named is become, or workers do not start."
        ),
    ] = None
    group: Annotated[str | None, described("The group, likewise; null for the user's own.")] = None

    @property
    def name(self) -> str:
        """The user's name or number."""
        return _DEFAULT_USER if self.user is None else self.user

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody counts on it, rather than take what can be had."""
        return self.user is not None or self.group is not None


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
        if privileges.name.isdecimal():
            user = int(privileges.name)
            group = pwd.getpwuid(user).pw_gid if privileges.group is None else -1
        else:
            entry = pwd.getpwnam(privileges.name)
            user, group = entry.pw_uid, entry.pw_gid
    except KeyError as error:
        raise UnknownNameError(f"there is no user {privileges.name}") from error
    if privileges.group is not None:
        try:
            group = (
                int(privileges.group)
                if privileges.group.isdecimal()
                else grp.getgrnam(privileges.group).gr_gid
            )
        except KeyError as error:
            raise UnknownNameError(f"there is no group {privileges.group}") from error
    for kind, number in (("user", user), ("group", group)):
        if number > _IDS_MAX:
            raise UnknownNameError(f"there can be no {kind} {number}")
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
        if value is not None and (value == "root" or (value.isdecimal() and int(value) == 0)):
            _report_root(key, value, report)


def _report_root(key: str, value: str, report: Report) -> None:
    report.error(
        (*_PATH, key),
        f"{quoted(value)} gives nothing up",
        "name another, or set enabled: false",
        related=((*_PATH, "enabled"),),
    )


def check_names(privileges: Privileges, report: Report, *, is_root: bool) -> None:
    """Report a user that this machine does not know, or that is root by another name.

    Arguments:
        is_root: Whether whoever checks could become it: an error then, else a warning.
    """
    if not privileges.enabled:
        return
    try:
        numbers = numbers_of(privileges)
    except UnknownNameError as error:
        say = report.error if is_root else report.warning
        say((*_PATH, "user"), str(error), "name one that exists, or make it")
        return
    for key, value, number in zip(
        ("user", "group"), (privileges.name, privileges.group), numbers, strict=True
    ):
        # Those that say so themselves were reported before there was a machine to ask.
        if number == 0 and value not in ("root", None) and not value.isdecimal():
            _report_root(key, value, report)
