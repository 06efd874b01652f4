"""``security.privileges``: whose the workers may be."""

import grp
import pwd

import pytest

from spooky.config.report import Report
from spooky.config.security import (
    Privileges,
    UnknownNameError,
    check_names,
    check_privileges,
    numbers_of,
)


@pytest.mark.parametrize("value", ["root", "0", "00", "0000"])
@pytest.mark.parametrize("key", ["user", "group"])
def test_root_is_an_error_however_it_is_written(key: str, value: str) -> None:
    report = Report("")
    check_privileges(Privileges(**{key: value}), report)
    (problem,) = report.problems
    assert "gives nothing up" in problem.message


def test_another_name_of_root_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.getpwuid(0)
    monkeypatch.setattr(pwd, "getpwnam", lambda _: root)
    monkeypatch.setattr(grp, "getgrnam", lambda _: grp.getgrgid(0))
    report = Report("")
    check_names(Privileges(user="toor", group="wheel"), report, is_root=False)
    assert report.has_errors
    assert [problem.path for problem in report.problems] == [
        "security.privileges.user", "security.privileges.group",
    ]  # fmt: skip


def test_another_user_is_none() -> None:
    report = Report("")
    check_privileges(Privileges(user="1", group="1"), report)
    check_names(Privileges(user="1", group="1"), report, is_root=True)
    assert report.problems == []


@pytest.mark.parametrize("key", ["user", "group"])
@pytest.mark.parametrize("number", [2**32 - 1, 2**32])
def test_the_number_that_changes_nothing_is_nobodys(key: str, number: int) -> None:
    values = {"user": "1", "group": "1", key: str(number)}
    with pytest.raises(UnknownNameError, match=f"no {key} {number}"):
        numbers_of(Privileges(**values))
