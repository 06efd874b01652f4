"""Going back while files are gone or half written: what is in use of them stays in use."""

import asyncio
import datetime
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from spooky.config.problems import ConfigurationError
from spooky.control.change import Asked
from spooky.generation.materials import MaterialError
from tests.certificates import leaf, write
from tests.control.control_api import TOKENS, with_tokens
from tests.control.test_file_watch import AUTHORITY, NAMES, Bench, fresh

ASKED = Asked("a test")


def other(bench: Bench, stem: str) -> None:
    """Have the file name another certificate for another server name."""
    directory = bench.path.parent
    write(leaf(["other.test"], AUTHORITY), directory, stem)
    files = {"cert": str(directory / f"{stem}.pem"), "key": str(directory / f"{stem}.key")}
    settings = yaml.safe_load(bench.path.read_text())
    settings["listen"]["tls"]["certificates"] = [{"server_name": "other.test", **files}]
    bench.path.write_text(yaml.safe_dump(settings))


def gone(bench: Bench) -> None:
    bench.certificate.unlink()


def empty(bench: Bench) -> None:
    bench.certificate.write_bytes(b"")


def half(bench: Bench) -> None:
    bench.certificate.write_bytes(leaf(NAMES, AUTHORITY).certificate_pem)


@pytest.mark.parametrize("damage", [gone, empty, half])
def test_a_certificate_in_use_stops_no_way_back(
    tmp_path: Path, damage: Callable[[Bench], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        other(bench, "other")
        await bench.changes.reload(ASKED)
        serial = bench.serial
        damage(bench)
        outcome = await bench.changes.rollback(None, ASKED)
        assert (bench.number, bench.changes.record.origin) == (3, 1)
        assert bench.serial == serial
        (warning,) = outcome.warnings
        assert "server." in warning.message
        assert warning.message.endswith("; what is in use stays")
        assert warning.message in caplog.text
        # Another that was written whole meanwhile is taken, as ever.
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.serial == renewed.certificate.serial_number

    asyncio.run(scenario())


def test_what_can_be_read_of_the_files_is_taken_as_it_is_now(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        other(bench, "one")
        await bench.changes.reload(ASKED)
        other(bench, "two")
        await bench.changes.reload(ASKED)
        gone(bench)
        # First it is in use no more, and then it is.
        for target in (None, 2):
            renewed = leaf(["other.test"], AUTHORITY)
            write(renewed, tmp_path, "one")
            await bench.changes.rollback(target, ASKED)
            (tls,) = bench.changes.running.tls
            serials = [chain.certificate.serial_number for chain in tls.selector.chains]
            assert renewed.certificate.serial_number in serials
        # What is neither there nor in use cannot be had.
        (tmp_path / "two.pem").unlink()
        with pytest.raises(MaterialError, match="No such file"):
            await bench.changes.rollback(3, ASKED)

    asyncio.run(scenario())


def test_who_looks_before_they_go_back_is_told_of_all_that_is_not_as_it_should_be(
    tmp_path: Path,
) -> None:
    def named(settings: dict[str, Any]) -> None:
        settings["upstream"]["backend"]["backends"].append(
            {"id": "named", "address": "http://nobody.invalid:1"}
        )

    async def scenario() -> None:
        bench = Bench(tmp_path, named)
        other(bench, "other")
        await bench.changes.reload(ASKED)
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        dates = {"not_before": now - 2 * day, "not_after": now - day}
        old = leaf(["other.test"], AUTHORITY, **dates)
        write(old, tmp_path, "other")
        fresh(tmp_path)
        plan, warnings = await bench.changes.judge_rollback(2)
        assert (plan.generation, plan.back_to) == (2, 2)
        texts = [one.message for one in warnings]
        assert len(texts) == len(set(texts))
        (expired,) = [one for one in warnings if "expired" in one.message]
        assert expired.path == "listen.tls.certificates[0].cert"
        assert any("nobody.invalid" in text for text in texts)
        changed = [text for text in texts if "has changed since generation 2" in text]
        assert [Path(text.split()[0]).name for text in changed] == [
            "other.key", "other.pem", "server.key", "server.pem"
        ]  # fmt: skip
        assert {one.severity for one in warnings} == {"warning"}
        # And so says the rollback itself, of what it looks at.
        outcome = await bench.changes.rollback(2, ASKED)
        assert [one.message for one in outcome.warnings] == changed
        # One without a number goes to where it says.
        assert (await bench.changes.preview_rollback(None)).back_to == 1
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bench.path.write_text(
                bench.path.read_text().replace("port: 0", f"port: {taken.getsockname()[1]}")
            )
            bench.changes.record = replace(bench.changes.record, text=bench.path.read_text())
            bench.changes.history.remember(bench.changes.record)
            with pytest.raises(ConfigurationError, match="in use"):
                await bench.changes.judge_rollback(bench.number)

    asyncio.run(scenario())


def test_a_token_in_use_stops_no_way_back(tmp_path: Path) -> None:
    def with_api(settings: dict[str, Any]) -> None:
        with_tokens(tmp_path, settings)

    async def scenario() -> None:
        bench = Bench(tmp_path, with_api)
        other(bench, "other")
        await bench.changes.reload(ASKED)
        (tmp_path / "viewer.token").unlink()
        outcome = await bench.changes.rollback(None, ASKED)
        assert "viewer.token: No such file" in outcome.warnings[0].message
        credentials = bench.changes.running.credentials
        assert all(credentials.who_shows(token.encode()) for token in TOKENS.values())

    asyncio.run(scenario())
