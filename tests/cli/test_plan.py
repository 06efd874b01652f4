"""``spooky plan``: exit codes, what is shown, colour, and JSON that renders the same."""

import io
import json

import pytest

from spooky.cli.main import run
from spooky.cli.plan_view import show_plan
from spooky.config.difference import ChangeKind, Setting
from spooky.config.inventory import Object, ObjectKind
from spooky.control.effects import Effect, Reach
from spooky.control.hazards import Hazard
from spooky.control.plan import Held, Plan, PlannedChange, Pool, decode
from tests import certificates
from tests.cli.processes import on_terminal
from tests.config.support import GOOD


@pytest.fixture
def old(tmp_path):
    certificates.write(certificates.leaf(["a.example"], certificates.shared_ca()), tmp_path)
    file = tmp_path / "old.yaml"
    file.write_text(
        GOOD.replace("cert: cert.pem\n    key: key.pem", "cert: server.pem\n    key: server.key")
    )
    return file


@pytest.fixture
def new(old):
    file = old.with_name("new.yaml")
    text = old.read_text()
    text = text.replace("weight: 100", "weight: 10").replace("[/admin]", "[]")
    text = text.replace("id: web-1", "id: web-2").replace("[2001:db8::1]", "[2001:db8::2]")
    file.write_text(text)
    return file


def test_without_changes_it_exits_with_0(old, capsys):
    assert run(["plan", str(old), "--against", str(old)]) == 0
    assert capsys.readouterr().out == "no changes\n"


def test_changes_are_shown_by_object_and_exit_with_3(old, new, capsys):
    assert run(["plan", str(new), "--against", str(old)]) == 3
    out, err = capsys.readouterr()
    assert out == (
        "1 added, 1 removed, 3 changed\n"
        "~ backend api api-1\n"
        "    ~ weight: 100 → 10  live: new requests\n"
        "~ backend api api-2\n"
        "    ~ address: https://[2001:db8::1]:8443 → https://[2001:db8::2]:8443  "
        "drains: new requests\n"
        "- backend web web-1  drains: new requests\n"
        "      address: https://backend.example.com:443\n"
        "+ backend web web-2  live: new requests\n"
        "      address: https://backend.example.com:443\n"
        "~ settings\n"
        "    ~ resilience.protocol.denied_path_prefixes: [/admin] → []  live: new requests\n"
        "\n"
        "live: in force at the commit; nothing is interrupted\n"
        "drains: in force at the commit; what uses the old finishes on it for at most "
        "5 s, and is then cut\n"
        "kept: client connections of 127.0.0.1:8443; pools of api (api-1); pools of web (web-1)\n"
        "drained: pools of api (api-2)\n"
        "\n"
        "Hazards\n"
        "  ! upstream web: no backend of web that serves now is kept (last_backend_removed)\n"
        "  ! settings: resilience.protocol.denied_path_prefixes goes from /admin to none "
        "(limit_lifted)\n"
    )
    assert f"compared by name alone: {old.parent}/client.pem" in err
    assert err.count("client.pem") == 1
    assert "server.pem" not in err


@pytest.mark.parametrize(
    "arguments", [["--reason", "a trial"], ["--expect", "1"], ["--probation", "30s"]]
)
def test_a_rollback_that_is_only_looked_at_takes_nothing_that_is_for_one_that_is_made(
    arguments, capsys
):
    assert run(["rollback", "--dry-run", *arguments]) == 2
    assert "are for what is done" in capsys.readouterr().err


def test_a_plan_of_going_back_says_from_where_to_where():
    stream = io.StringIO()
    show_plan(Plan(generation=4, back_to=2), stream)
    assert stream.getvalue() == "no changes from generation 4 back to 2\n"


def test_json_can_be_shown_as_the_plan_itself(old, new, capsys):
    run(["plan", str(new), "--against", str(old)])
    shown = capsys.readouterr().out
    assert run(["plan", str(new), "--against", str(old), "--json"]) == 3
    text = capsys.readouterr().out
    assert json.loads(text)["version"] == 1
    stream = io.StringIO()
    show_plan(decode(text), stream)
    assert stream.getvalue() == shown


def test_the_bound_of_what_drains_is_said_in_seconds(old, new, capsys):
    new.write_text(
        new.read_text().replace(
            "performance:", "performance:\n  shutdown_drain_timeout_ms: 3500", 1
        )
    )
    assert run(["plan", str(new), "--against", str(old)]) == 3
    assert (
        "drains: in force at the commit; what uses the old finishes on it for at most 3.5 s, and "
        "is then cut\n"
    ) in capsys.readouterr().out


def test_a_plan_against_a_generation_says_which():
    stream = io.StringIO()
    show_plan(Plan(generation=12), stream)
    assert stream.getvalue() == "no changes against generation 12\n"


def test_a_renewed_certificate_is_shown_by_its_fingerprint(old, tmp_path, capsys):
    folder = tmp_path / "renewed"
    folder.mkdir()
    certificates.write(certificates.leaf(["a.example"], certificates.shared_ca()), folder)
    text = old.read_text().replace("server.pem", "renewed/server.pem")
    new = old.with_name("new.yaml")
    new.write_text(text.replace("server.key", "renewed/server.key"))
    assert run(["plan", str(new), "--against", str(old)]) == 3
    out = capsys.readouterr().out
    assert "~ certificate 127.0.0.1:8443 (default)\n" in out
    assert "    ~ key.sha256: (secret) → (secret)  live: new client connections\n" in out
    assert "clients that ask for any other name are shown another certificate" in out


def test_a_file_with_errors_exits_with_1_and_names_them(old, capsys):
    bad = old.with_name("bad.yaml")
    bad.write_text("nonsense: 1\n")
    assert run(["plan", str(bad), "--against", str(old)]) == 1
    assert "there is no such key" in capsys.readouterr().err
    assert run(["plan", str(old), "--against", str(bad)]) == 1


def test_wrong_usage_exits_with_2(old, capsys):
    assert run(["plan", str(old), "--agianst", str(old)]) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals(old, new, no_color, coloured):
    shown = on_terminal("plan", str(new), "--against", str(old), no_color=no_color)
    assert "denied_path_prefixes" in shown
    assert ("\x1b[" in shown) == coloured


def test_control_characters_of_a_plan_do_not_reach_the_terminal():
    """A plan may come from elsewhere."""
    each = Object(ObjectKind.UPSTREAM, "", "a\x1b[31m")
    change = PlannedChange(
        kind=ChangeKind.CHANGED, object=each, key="x\x07", old="\x1b]0;t\x07", new=("\x9b1m",),
        effect=Effect.LIVE, reach=Reach.REQUESTS,
    )  # fmt: skip
    added = PlannedChange(
        kind=ChangeKind.ADDED, object=Object(ObjectKind.BACKEND, "\x1b", "b"),
        settings=(Setting("\x1bk", "\x1bv"),), effect=Effect.LIVE, reach=Reach.REQUESTS,
    )  # fmt: skip
    held = Held(("\x1bl",), (Pool("\x1bu", "\x1bb", "", "auto"),))
    plan = Plan(
        changes=(change, added), kept=held, drained=held, hazards=(Hazard("\x1bc", each, "\x1bt"),)
    )
    stream = io.StringIO()
    show_plan(plan, stream)
    assert [c for c in stream.getvalue() if not c.isprintable() and c != "\n"] == []
