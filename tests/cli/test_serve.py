"""``spooky serve``: from a file to traffic, and to an orderly end."""

import signal
import time
from pathlib import Path

import pytest

from spooky.cli.main import run
from tests import certificates
from tests.cli.processes import END_SECONDS, backend, line_with, process, request


def configuration(directory: Path, address: str) -> Path:
    """Write a configuration for one backend, on a free port."""
    chain, key = certificates.write(
        certificates.leaf(["localhost", "127.0.0.1"], certificates.shared_ca()), directory
    )
    key.chmod(0o600)
    file = directory / "config.yaml"
    file.write_text(
        f"listen: {{address: 127.0.0.1, port: 0, tls: {{cert: {chain}, key: {key}}}}}\n"
        "upstream: {b: {route: {path_prefix: /}, backends: "
        f"[{{id: b, address: {address}}}]}}}}\n"
        "access_log: {enabled: true, format: json}\n"
    )
    return file


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_what_the_file_says_until_a_signal(tmp_path: Path, end: signal.Signals) -> None:
    with backend() as address:
        file = configuration(tmp_path, address)
        with process("serve", "--config", str(file)) as running:
            port = line_with(running, "serving HTTP/3").split()[-1]
            assert request("-k", f"https://127.0.0.1:{port}/a").stdout == "GET /a None "
            assert '"path":"/a"' in line_with(running, "/a").replace(": ", ":")
            running.send_signal(end)
            assert running.wait(END_SECONDS) == 0


def test_check_and_a_running_proxy_are_not_in_each_others_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with backend() as address:
        file = configuration(tmp_path, address)
        with process("serve", "--config", str(file)) as running:
            port = line_with(running, "serving HTTP/3").split()[-1]
            file.write_text(file.read_text().replace("port: 0", f"port: {port}"))
            assert run(["check", str(file)]) == 0
            assert capsys.readouterr().out.startswith(f"{file} is good")
            assert request("-k", f"https://127.0.0.1:{port}/a").stdout == "GET /a None "


def test_it_says_what_is_wrong_with_its_file_as_check_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("listen: {port: x}\nupstrem: {}\n")
    assert run(["serve", "--config", str(file)]) == 1
    err = capsys.readouterr().err
    assert f"{file}:2:1: error: upstrem: there is no such key" in err
    assert "did you mean upstream?" in err
    assert "listen.port" in err


def test_a_file_without_config_before_it_is_usage_that_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["serve", "spooky.yaml"]) == 2
    assert "--config spooky.yaml" in capsys.readouterr().err


def test_told_to_stop_before_it_serves_it_ends_in_good_order(tmp_path: Path) -> None:
    socket = tmp_path / "control.sock"
    file = configuration(tmp_path, "http://127.0.0.1:1")
    places = f"control: {{socket: {socket}, state_dir: {tmp_path / 'state'}}}\n"
    file.write_text(file.read_text() + places)
    with process("serve", "--config", str(file)) as running:
        # There before the workers are; where they are quicker, it ends as at any time.
        while not socket.exists():
            assert running.poll() is None
            time.sleep(0.01)
        running.terminate()
        _, said = running.communicate(timeout=END_SECONDS)
    assert running.returncode == 0
    assert "supervisor is gone" not in said
    assert not socket.exists()


def test_without_config_it_reads_the_usual_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    assert "/etc/spooky/config.yaml" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_an_error_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--config", str(tmp_path / "none.yaml")]) == 1
    err = capsys.readouterr().err
    assert "none.yaml: error: cannot read the file" in err
    assert "spooky init" in err
