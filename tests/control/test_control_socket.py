"""The control socket: where it may be, who may listen there, and what a silent one is called."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from aiohttp import web

from spooky import config
from spooky.cli import control_client
from spooky.cli.errors import EXIT_NO_ANSWER, CommandError
from spooky.control.candidate import Candidate
from spooky.control.change import Asked, NotNowError
from spooky.control.changes import Changes
from spooky.control.control_socket import ControlSocket, ControlSocketError
from spooky.control.first_generation import begin_with
from spooky.control.history import History
from spooky.generation.materials import Materials
from spooky.observe.segment import create_segment
from tests.support.proxy import configuration, run


async def opened(path: Path) -> ControlSocket:
    made = ControlSocket(path, web.Application())
    await made.open()
    return made


def test_a_place_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = tmp_path / "place"
        place.mkdir()
        place.chmod(0o777)
        with pytest.raises(ControlSocketError, match="others can write"):
            await opened(place / "control.sock")
        # As /tmp is: others can add, and not touch what is ours.
        place.chmod(0o1777)
        await (await opened(place / "control.sock")).close()
        place.chmod(0o700)
        (place / "control.sock.lock").unlink()
        (place / "control.sock.lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ControlSocketError, match="symbolic link"):
            await opened(place / "control.sock")

    run(scenario)


def test_nobody_is_answered_before_the_change_is_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "control.sock"
        made = await opened(path)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(path)
        made.listen()
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        await made.close()
        assert not path.exists()

    run(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_stranger_who_listens_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        # The kernel keeps who called listen(), whoever made the socket.
        os.seteuid(12345)
        try:
            stranger.listen()
        finally:
            os.seteuid(0)
        with pytest.raises(CommandError, match="user 12345 listens"):
            control_client.get(path, "/health")


def test_what_a_killed_process_left_is_nobody_who_listens(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(CommandError, match="no Spooky listens at") as raised:
        control_client.get(path, "/health")
    assert "spooky serve" in raised.value.remedy


def test_no_answer_in_time_has_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "ANSWER_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control.sock"))
        silent.listen()
        with pytest.raises(CommandError) as raised:
            control_client.get(tmp_path / "control.sock", "/health")
    assert raised.value.exit_code == EXIT_NO_ANSWER


def test_nothing_is_changed_while_the_service_starts(tmp_path: Path) -> None:
    settings = config.from_mapping(configuration(tmp_path, "http://127.0.0.1:1"))
    candidate = Candidate(settings, "", "/spooky.yaml", Materials({}, b""), (), settings)
    history = History(None, 10)

    async def scenario() -> None:
        segment, _ = create_segment(1)
        _, record = begin_with(candidate, history, 0.0)
        changes = Changes(candidate, record, history, segment, [])
        with pytest.raises(NotNowError) as raised:
            await changes.renew(candidate, Asked("a test"))
        assert raised.value.code == "starting"
        changes.starting = False
        assert not (await changes.renew(candidate, Asked("a test"))).changed

    run(scenario)
