"""``spooky request``: what it refuses to send, and how it says that nothing came back."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from spooky.cli.main import run
from spooky.cli.request import OutputError, ResponsePrinter, Timing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'URL'"),
        (["http://a"], "'http://a' is not a URL for HTTP/3"),
        (["https://"], "is not a URL for HTTP/3"),
        (["https://[::1/"], "is not a URL for HTTP/3"),
        (["https://a:99999"], "is not a URL for HTTP/3"),
        (["https://user@a"], "is not a URL for HTTP/3"),
        (["https://a/ä"], "has to be percent-encoded"),
        (["https://a/b c"], "has to be percent-encoded"),
        (["https://a", "-H", "name"], "--header 'name' is not NAME: VALUE"),
        (["https://a", "-H", ": value"], "is not NAME: VALUE"),
        (["https://a", "-H", "€: value"], "is not NAME: VALUE"),
        (["https://a", "-H", "a b: value"], "is not NAME: VALUE"),
        (["https://a", "-H", "a: b\r\nc: d"], "is not NAME: VALUE"),
        (["https://a", "-X", "G ET"], "--method 'G ET' is not a method"),
        (["https://a", "-X", "GÉT"], "is not a method"),
        (["https://a", "--timeout", "0"], "'--timeout'"),
        (["https://a", "--cacert", "/nowhere"], "'--cacert'"),
    ],
)
def test_wrong_usage_is_named_and_exits_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["request", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_body_that_cannot_be_read_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["request", "https://127.0.0.1:9", "-d", "@/nowhere"]) == 1
    assert capsys.readouterr().err == "error: /nowhere: No such file or directory\n"


def test_authorities_that_cannot_be_read_are_named_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert run(["request", "https://127.0.0.1:9", "--cacert", str(broken)]) == 1
    assert f"error: {broken}: cannot read certificates" in capsys.readouterr().err


def test_a_server_that_does_not_answer_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert run(["request", f"https://127.0.0.1:{port}", "--timeout", "0.2"]) == 1
    err = capsys.readouterr().err
    assert f"no complete response from 127.0.0.1:{port} within 0.2 s" in err
    assert "remedy:" in err


def test_a_closed_port_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert run(["request", f"https://127.0.0.1:{port}", "--timeout", "10"]) == 1
    assert f"127.0.0.1:{port}: nothing listens on that UDP port" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    async def scenario() -> None:
        printer = ResponsePrinter(Timing(), verbose=False)
        printer.on_data(b"a", end=False)
        printer.on_data(b"b", end=True)
        with pytest.raises(OutputError) as raised:
            await printer.ended
        assert isinstance(raised.value.args[0], BrokenPipeError)

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", os.fdopen(writer, "w"))
        asyncio.run(scenario())
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.close()
