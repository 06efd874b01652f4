"""Talking to a running Spooky over its control socket."""

import http.client
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from spooky.cli.errors import EXIT_NO_ANSWER, CommandError
from spooky.config.problems import ConfigurationError, Problem
from spooky.control.peer import CREDENTIALS
from spooky.control.places import SOCKET_VARIABLE, default_socket

ANSWER_SECONDS: Final = 180.0
"""How long an answer may take: workers may prepare for a minute, after a listener has drained."""


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


def asked_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every change has."""
    reason = click.option("--reason", default="", help="Why, for the history.")
    expect = click.option(
        "--expect",
        type=click.IntRange(min=1),
        metavar="GENERATION",
        help="Change nothing unless this generation is in force.",
    )
    return reason(expect(command))


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
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


def post(path: Path, target: str, body: Mapping[str, Any]) -> Any:
    """Return what a running Spooky answers to a POST.

    Raises:
        CommandError: It cannot be reached, or refuses.
        ConfigurationError: It found errors in a configuration.
    """
    return _ask(path, "POST", target, body)


def _ask(path: Path, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
    connection = _Connection(path)
    try:
        content = msgspec.json.encode(body) if body is not None else None
        connection.request(method, target, body=content)
        response = connection.getresponse()
        status, answer = response.status, msgspec.json.decode(response.read())
    except FileNotFoundError as error:
        raise CommandError(
            f"no Spooky listens at {path}",
            "start one with `spooky serve`, or say with --socket where it listens",
        ) from error
    except TimeoutError as error:
        raise CommandError(
            f"no answer within {ANSWER_SECONDS:.0f} s: what was asked may still be done",
            "see `spooky status`",
            EXIT_NO_ANSWER,
        ) from error
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise CommandError(f"cannot talk to Spooky at {path}: {error}") from error
    finally:
        connection.close()
    if status < 400:
        return answer
    if "problems" in answer:
        problems = msgspec.convert(answer["problems"], list[Problem])
        raise ConfigurationError(problems, answer.get("text", ""))
    raise CommandError(answer["detail"])
