"""``spooky check``, and how errors are shown and turned into exit codes."""

import json
import subprocess
import sys

import pytest

from spooky.cli.errors import CommandError, report
from spooky.cli.main import COMMANDS, run
from tests import certificates
from tests.cli.processes import on_terminal
from tests.config.test_all_at_once import FILE as MISTAKES


@pytest.fixture
def good(tmp_path):
    """A configuration whose files are all there."""
    certificates.write(certificates.leaf(["a.example"], certificates.shared_ca()), tmp_path)
    (tmp_path / "server.key").chmod(0o600)
    file = tmp_path / "config.yaml"
    file.write_text(
        "listen: {port: 0, tls: {cert: server.pem, key: server.key}}\n"
        "upstream: {api: {route: {host: a}, backends: [{id: a, address: 'http://192.0.2.1'}]}}\n"
    )
    return file


def test_a_good_file_exits_with_0_and_says_what_is_in_it(good, capsys):
    assert run(["check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good} is good: 1 listener, 1 upstream, 1 backend\n"


def test_warnings_are_shown_and_exit_with_0(good, capsys):
    good.write_text(f"{good.read_text()}upstream_tls: {{verify_certificates: false}}\n")
    assert run(["check", str(good)]) == 0
    out = capsys.readouterr().out
    assert "warning: upstream_tls.verify_certificates" in out
    assert "1 warning\n" in out


def test_every_mistake_is_shown_with_its_line_and_a_caret(capsys):
    assert run(["check", str(MISTAKES)]) == 1
    out = capsys.readouterr().out
    assert out.count(": error: ") == 19
    assert out.endswith("19 errors\n")
    assert (
        f"{MISTAKES}:4:9: error: listen.port: YAML reads 0443 as octal, as 291 in decimal\n"
        "    4 |   port: 0443\n"
        "      |         ^\n"
        "        remedy: write 443, or 291 if that is meant\n"
    ) in out
    assert "\x1b" not in out


def test_carets_stand_under_wide_characters_and_tabs(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text('log: {file: {path: "日本",\tenabled: 1}}\n')
    run(["check", str(file)])
    lines = capsys.readouterr().out.splitlines()
    shown, caret = lines[[i for i, line in enumerate(lines) if line.endswith("^")][-1] - 1 :][:2]
    assert caret.index("^") == shown.index("1}}") + len("日本")


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text('"\\e[31m": 1\n"a\u009b": 1\nlog: {level: "\\e]0;x\\a"}\n')
    run(["check", str(file)])
    out = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_json_is_a_list_of_problems(capsys):
    assert run(["check", "--json", str(MISTAKES)]) == 1
    problems = json.loads(capsys.readouterr().out)
    assert len(problems) == 19
    assert problems[1] == {
        "severity": "error",
        "file": str(MISTAKES),
        "line": 4,
        "column": 9,
        "path": "listen.port",
        "message": "YAML reads 0443 as octal, as 291 in decimal",
        "remedy": "write 443, or 291 if that is meant",
    }


def test_json_of_a_good_file_is_an_empty_list(good, capsys):
    assert run(["check", "--json", str(good)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_missing_file_exits_with_1(tmp_path, capsys):
    assert run(["check", str(tmp_path / "none.yaml")]) == 1
    assert "cannot read the file: No such file or directory" in capsys.readouterr().out


def test_a_directory_exits_with_1(tmp_path, capsys):
    assert run(["check", str(tmp_path)]) == 1
    assert "Is a directory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--nonsense"], "No such option"),
        (["check", "a", "b"], "unexpected extra argument"),
        (["chekc"], "did you mean `spooky check`?"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_where_help_is(arguments, words, capsys):
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "--help" in error


def test_no_command_prints_the_help(capsys):
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version(capsys):
    from spooky import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"spooky {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_command(command, capsys):
    assert run(["--help"]) == 0
    assert f"\n  {command} " in capsys.readouterr().out


def test_help_imports_no_protocol_and_no_command():
    """So that it is fast; commands are imported one by one."""
    code = (
        "import sys\n"
        "from spooky.cli.main import COMMANDS, run\n"
        "run(['--help'])\n"
        "print(*sorted(m for m in sys.modules if m.startswith(('spooky', 'aioquic', 'yaml'))),"
        " file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert set(done.stderr.split()) == {
        "spooky", "spooky._version", "spooky.cli", "spooky.cli.main", "spooky.cli.errors",
        "spooky.cli.broken_build", "spooky.cli.json_option",
        "spooky.config", "spooky.config.problems",
    }  # fmt: skip


def test_a_command_error_has_its_exit_code_and_remedy(capsys):
    assert report(CommandError("the port is taken", "choose another", exit_code=3)) == 3
    assert capsys.readouterr().err == "error: the port is taken\n  remedy: choose another\n"


def test_an_os_error_names_the_file(capsys):
    assert report(PermissionError(13, "Permission denied", "/x")) == 1
    assert capsys.readouterr().err == "error: /x: Permission denied\n"


def test_a_defect_is_no_error_of_the_user():
    assert report(ZeroDivisionError()) is None


def test_a_reader_that_goes_away_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m spooky.cli.main schema | head -1",
        shell=True, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals(tmp_path, no_color, coloured):
    file = tmp_path / "config.yaml"
    file.write_text("version: 2\n")
    shown = on_terminal("check", str(file), no_color=no_color)
    assert "expected 1, found the number 2" in shown
    assert ("\x1b[31m" in shown) == coloured


def test_what_a_file_leaves_open_is_said_with_what_would_be_safe(good, capsys):
    good.write_text(good.read_text().replace("http://192.0.2.1", "http://127.0.0.1:1"))
    assert run(["check", "--security", str(good)]) == 0
    assert capsys.readouterr().out == f"{good} leaves nothing open\n"
    good.write_text(f"{good.read_text()}security: {{sandbox: false}}\n")
    assert run(["check", "--security", str(good)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("security.sandbox: a worker that a client takes over can do")
    assert "\n        safe: true\n1 setting left open\n" in out
    assert run(["check", "--security", "--json", str(good)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["path"] == "security.sandbox"
