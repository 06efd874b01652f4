"""``spooky info``."""

import importlib
import json
import re
import socket
import tomllib
from pathlib import Path

import pytest

from spooky import __version__, _core
from spooky.cli import info
from spooky.cli.main import run

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def facts(capsys):
    assert run(["info", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_versions_and_features_are_there(capsys):
    found = facts(capsys)
    assert found["spooky"]["version"] == __version__
    assert found["spooky"]["core"] in ("compiled", "pure Python")
    assert found["dependencies"]["aioquic"].startswith("1.7")
    assert set(found["kernel"]) == {
        "UDP_SEGMENT (GSO)", "UDP_GRO", "ECN", "IP_PKTINFO", "path MTU discovery", "recvmmsg",
        "SO_REUSEPORT",
    }  # fmt: skip
    assert all(isinstance(value, bool) for value in found["kernel"].values())


def test_every_dependency_of_the_package_is_listed():
    project = tomllib.loads(PROJECT.read_text())["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert set(info.DEPENDENCIES) == names


def test_the_pure_core_is_named(monkeypatch, capsys):
    monkeypatch.setattr("spooky._core.COMPILED", False)
    assert facts(capsys)["spooky"]["core"] == "pure Python"
    monkeypatch.setattr("spooky._core.COMPILED", True)
    assert facts(capsys)["spooky"]["core"] == "compiled"


def test_whose_ciphers_protect_packets_is_said(monkeypatch, capsys):
    monkeypatch.setattr("spooky._core.COMPILED", False)
    assert facts(capsys)["cryptography"]["QUIC packets"] is None


@pytest.mark.skipif(not _core.COMPILED, reason="the engine is not compiled")
def test_the_library_in_use_is_named(capsys):
    crypto = importlib.import_module("spooky._core.quic.crypto")
    assert facts(capsys)["cryptography"]["QUIC packets"] == crypto.provider()


def test_features_are_found_by_trying(monkeypatch, capsys):
    class Refusing(socket.socket):
        def setsockopt(self, level, option, value):
            if option == socket.SO_REUSEPORT:
                raise OSError(92, "Protocol not available")
            super().setsockopt(level, option, value)

    monkeypatch.setattr(info.socket, "socket", Refusing)
    kernel = facts(capsys)["kernel"]
    assert kernel["SO_REUSEPORT"] is False
    assert kernel["recvmmsg"] is True


def test_what_is_missing_is_said_to_be(monkeypatch, capsys):
    monkeypatch.setattr(info, "LIBCRYPTO", "libnone.so.9")
    monkeypatch.setattr(info, "DEPENDENCIES", ("no-such-distribution",))
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"no-such-distribution +not found", out)
    assert re.search(r"libnone.so.9 +not found", out)


@pytest.mark.parametrize("title", ["spooky", "dependencies", "cryptography", "kernel"])
def test_people_get_a_table(title, capsys):
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^{title}$", out, re.MULTILINE)
    assert re.search(r"^  recvmmsg +(yes|no)$", out, re.MULTILINE)
