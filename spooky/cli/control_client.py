"""Talking to a running Spooky over its control socket."""

import http.client
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from spooky.cli.errors import EXIT_NO_ANSWER, AnsweredError, CommandError
from spooky.cli.json_option import is_for_programs
from spooky.cli.progress import StatusLine
from spooky.control.peer import CREDENTIALS
from spooky.control.places import SOCKET_VARIABLE, default_socket

ANSWER_SECONDS: Final = 180.0
"""How long an answer may take: workers may prepare for a minute, after the change before."""

AGAIN_SECONDS: Final = 0.5
"""When to ask again who will be ready: less than a person waits for."""

_LATER: Final = ("handed_over", "starting")
"""Codes of refusals that end by themselves, while one program takes over from another."""

UPGRADE: Final = "/admin/runtime/upgrade"

CONTENT: Final = re.compile("[0-9a-f]{64}")
"""SHA-256 as ``sha256sum`` prints it."""


def socket_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option that says where the control socket is."""
    option = click.option(
        "--socket",
        "path",
        type=click.Path(path_type=Path),
        envvar=SOCKET_VARIABLE,
        show_envvar=True,
        default=default_socket,
        help="The control socket of the running Spooky; by default spooky/control.sock under "
        "$XDG_RUNTIME_DIR, or under /run.",
    )
    return option(command)


def _expected(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """Return what somebody believes in force: a generation's number, or the SHA-256 of its text."""
    if value is None or CONTENT.fullmatch(value.lower()):
        return value and value.lower()
    if not value.isdecimal() or int(value) < 1:
        text = f"{value!r} is neither a generation nor the SHA-256 of a text"
        raise click.BadParameter(text, ctx, param)
    return int(value)


def asked_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every change has."""
    reason = click.option("--reason", default="", help="Why, for the history.")
    expect = click.option(
        "--expect",
        callback=_expected,
        metavar="GENERATION|SHA256",
        help="Change nothing unless this generation is in force, or a configuration whose text "
        "has this SHA-256.",
    )
    return reason(expect(command))


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
        _check_server(self.sock, self._path)


def _check_server(connection: socket.socket, path: Path) -> None:
    """Make sure that it is no stranger who listens: what they say would be believed.

    Raises:
        CommandError: It is one.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    user = CREDENTIALS.unpack(data)[1]
    # A service with a user of its own has a directory of its own, which systemd makes for it.
    if user not in (0, os.geteuid(), path.parent.stat().st_uid):
        raise CommandError(
            f"user {user} listens at {path}, who is neither you nor root nor the directory's owner",
            "say with --socket where Spooky listens",
        )


def get(path: Path, target: str) -> Any:
    """Return what a running Spooky answers to a GET.

    Raises:
        CommandError: It cannot be reached, or refuses.
    """
    return _ask(path, "GET", target, None)


def post(path: Path, target: str, body: Mapping[str, Any], awaited: str = "an answer") -> Any:
    """Return what a running Spooky answers to a POST.

    On a terminal, what is waited for is said meanwhile, except with ``--json``. If another program
    takes over from the one that is asked, that is asked.

    Arguments:
        awaited: What is waited for, as in ``waiting for the plan``.

    Raises:
        CommandError: It cannot be reached, or refuses.
        ConfigurationError: It found errors in a configuration.
    """
    line = StatusLine(sys.stderr if not is_for_programs() else None)
    with line.counting(f"waiting for {awaited}"):
        return _ask(path, "POST", target, body)


def _ask(path: Path, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        # However late it has become: the last question has its time, too.
        left = max(deadline - time.monotonic(), AGAIN_SECONDS, 0.1)
        status, answer = _exchange(path, method, target, body, left)
        if status < 400:
            return answer
        again = time.monotonic() + AGAIN_SECONDS
        # Who waited for an upgrade to upgrade has that by now: another would be one too many.
        is_done = target == UPGRADE and answer.get("code") == "handed_over"
        if is_done or answer.get("code") not in _LATER or again >= deadline:
            break
        time.sleep(AGAIN_SECONDS)
    if "problems" in answer:
        raise AnsweredError(answer)
    raise CommandError(answer["detail"], document=answer)


def _exchange(
    path: Path, method: str, target: str, body: Mapping[str, Any] | None, seconds: float
) -> tuple[int, Any]:
    """Return the status and the content of one answer.

    Arguments:
        seconds: How long it may take.

    Raises:
        CommandError: There is none.
    """
    connection = _Connection(path, seconds)
    try:
        content = msgspec.json.encode(body) if body is not None else None
        connection.request(method, target, body=content)
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        # Refused is what a socket file does that a killed process left.
        raise CommandError(
            f"no Spooky listens at {path}",
            "start one with `spooky serve`, or say with --socket where it listens",
        ) from error
    except PermissionError as error:
        raise CommandError(
            f"you may not ask the Spooky at {path}", "run this as the service's user, or as root"
        ) from error
    except TimeoutError as error:
        raise CommandError(
            f"no answer within {ANSWER_SECONDS:.0f} s: what was asked may still be done",
            "see `spooky status`",
            EXIT_NO_ANSWER,
        ) from error
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        text = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise CommandError(
            f"cannot talk to Spooky at {path}: {text or type(error).__name__}",
            "see whether it is a Spooky that listens there, and what its log says",
        ) from error
    finally:
        connection.close()
