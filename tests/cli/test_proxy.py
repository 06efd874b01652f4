"""``spooky proxy`` and ``spooky request``: one in front of a backend, the other through it."""

import signal
from collections.abc import Iterator

import pytest

from spooky.cli.main import run
from tests.cli.processes import END_SECONDS, backend, line_with, process, request


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a proxy that made its own certificate."""
    with backend() as to, process("proxy", "--to", to, "--listen", "127.0.0.1:0") as running:
        assert "cert.pem" in line_with(running, "made a certificate for this run")
        yield line_with(running, " -> ").split()[0]
        running.send_signal(signal.SIGTERM)
        assert running.wait(END_SECONDS) == 0


def test_a_request_goes_through_and_its_body_is_all_of_stdout(url: str) -> None:
    done = request("--insecure", f"{url}/a?b=c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "GET /a?b=c None ", "")


def test_method_headers_and_body_are_sent(url: str, tmp_path) -> None:
    (tmp_path / "body").write_text("from a file")
    sent = request("-k", "-X", "PUT", "-H", "X-Name: value", "-d", f"@{tmp_path / 'body'}", url)
    assert (sent.returncode, sent.stdout) == (0, "PUT / value from a file")
    assert request("-k", "-d", "text", url).stdout == "POST / None text"


def test_verbose_shows_handshake_heads_and_timing_beside_the_body(url: str) -> None:
    done = request("-k", "-v", f"{url}/missing")
    assert done.returncode == 0  # A complete response, whatever its status.
    assert done.stdout == "GET /missing None "
    for part in ("QUIC version 0x", "ALPN h3", "> :path: /missing", "< :status: 404", "handshake "):
        assert part in done.stderr


def test_a_certificate_that_is_not_trusted_is_refused(url: str) -> None:
    done = request(url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "certificate" in done.stderr
    assert "remedy: --cacert" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    listen = url.removeprefix("https://")
    assert run(["proxy", "--to", "http://127.0.0.1:1", "--listen", listen]) == 1
    assert f"cannot listen on 127.0.0.1 port {listen.split(':')[1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Missing option '--to'"),
        (["--to", "ftp://a"], '--to: "ftp" is not a scheme for backends; use http://'),
        (["--to", "http://a/path"], "--to: an address has only a scheme, a host and a port"),
        (["--to", "http://a", "--listen", "here"], "--listen 'here' is not ADDR:PORT"),
        (["--to", "http://a", "--listen", "1.2.3.4:65536"], "is not ADDR:PORT"),
        (["--to", "http://a", "--listen", "here:80"], '--listen: "here" is not an IP address'),
        (["--to", "http://a", "--cert", __file__], "--cert and --key go together"),
    ],
)
def test_wrong_options_are_named_and_exit_with_2(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["proxy", *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "made a certificate" not in err
