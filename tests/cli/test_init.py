"""``spooky init``."""

from spooky.cli.main import run
from spooky.config.starter import starter
from tests import certificates


def test_what_init_writes_passes_check_given_the_certificate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    assert "spooky check spooky.yaml" in capsys.readouterr().out
    assert run(["check", "spooky.yaml"]) == 1
    paths = certificates.write(certificates.shared_server(), tmp_path)
    paths.certificate.rename("cert.pem")
    paths.key.rename("key.pem")
    assert run(["check", "spooky.yaml"]) == 0


def test_a_dash_is_standard_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["init", "-"]) == 0
    assert capsys.readouterr().out == starter()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept_unless_forced(tmp_path, capsys):
    file = tmp_path / "my config.yaml"
    file.write_text("mine")
    assert run(["init", str(file)]) == 1
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(["init", str(file), "--force"]) == 0
    assert f"spooky check '{file}'" in capsys.readouterr().out
    assert file.read_text() == starter()


def test_a_directory_that_is_missing_is_named(tmp_path, capsys):
    path = tmp_path / "not there" / "spooky.yaml"
    assert run(["init", str(path)]) == 1
    said = capsys.readouterr().err
    assert f"there is no directory {path.parent}" in said
    assert f"mkdir -p '{path.parent}'" in said
