"""Certificates that are renewed and a configuration that is edited, while it runs."""

import asyncio
import datetime
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spooky.control import file_watch
from spooky.control.candidate import read_candidate
from spooky.control.change import (
    Asked,
    InForce,
    NextGeneration,
    PrepareError,
    StaleError,
    Step,
    UnknownGenerationError,
)
from spooky.control.changes import Changes
from spooky.control.expiry import ExpiryWarnings
from spooky.control.facts import client_certificate_facts
from spooky.control.file_watch import RETRY_SECONDS, CertificateWatch, ConfigurationWatch, FileWatch
from spooky.control.first_generation import begin_with
from spooky.control.history import History, Source
from spooky.control.stillness import Stillness, states_of
from spooky.observe.segment import private_segment
from tests.certificates import Credentials, ca, client_leaf, leaf, now, write
from tests.control.control_api import TOKENS, with_tokens
from tests.control.serve import Served, served
from tests.support.proxy import configuration, run
from tests.support.tls import plain_context
from tests.support.waiting import PATIENCE_SECONDS, until

AUTHORITY = ca()
NAMES = ["localhost", "127.0.0.1"]


class Failing:
    """A participant that cannot take part, for a while."""

    def __init__(self) -> None:
        self.failure = ""
        self.discarded = 0
        self.stuck = False

    async def prepare(self, change: NextGeneration) -> Step:
        """Do as it is told."""
        if self.failure:
            raise PrepareError(self.failure)
        return Step(lambda: None, self._discard)

    def _discard(self) -> None:
        self.discarded += 1
        if self.stuck:
            raise ValueError("a defect")


class Bench:
    """What runs, without processes; files in a directory; and looks that come when we say."""

    def __init__(
        self, directory: Path, change: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.path = directory / "spooky.yaml"
        settings = configuration(directory, "https://127.0.0.1:1")
        if change is not None:
            change(settings)
        self.path.write_text(yaml.safe_dump(settings))
        self.certificate, self.key = directory / "server.pem", directory / "server.key"
        candidate = read_candidate(self.path)
        history = History(None, 10)
        _, record = begin_with(candidate, history, 0.0)
        history.add(record)
        self.participant = Failing()
        self.changes = Changes(candidate, record, history, private_segment(), [self.participant])
        self.changes.starting = False
        self.busy = False
        self.certificates = CertificateWatch(self.changes, lambda: self.busy)
        self.configuration = ConfigurationWatch(self.changes)
        self.now = 0.0

    async def look(self, times: int = 2) -> None:
        """Look so many times."""
        for _ in range(times):
            self.now += 1.0
            await self.certificates.look(self.now)
            await self.configuration.look(self.now)

    @property
    def number(self) -> int:
        """The generation in force."""
        return self.changes.record.number

    @property
    def serial(self) -> int:
        """The serial number of the certificate that clients get."""
        (tls,) = self.changes.running.tls
        return tls.selector.chains[0].certificate.serial_number


def said_by_watch(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the watch has said; expiry of the certificates of tests is another subject."""
    return [one.getMessage() for one in caplog.records if one.name.endswith(".file_watch")]


def fresh(directory: Path, stem: str = "server") -> Credentials:
    """Write another certificate."""
    made = leaf(NAMES, AUTHORITY)
    write(made, directory, stem)
    return made


def test_a_renewed_certificate_comes_in_force_as_a_generation_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look(5)
        assert bench.number == 1
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.number == 2
        assert bench.serial == renewed.certificate.serial_number
        record = bench.changes.record
        assert record.source is Source.RENEWAL
        assert record.reason == f"renewed: {bench.key}, {bench.certificate}"
        await bench.look(5)
        assert bench.number == 2

    asyncio.run(scenario())


def test_a_pair_that_is_half_written_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        renewed = leaf(NAMES, AUTHORITY)
        bench.certificate.write_bytes(renewed.certificate_pem)
        await bench.look(1)
        bench.key.write_bytes(renewed.key_pem)
        await bench.look(1)
        assert bench.number == 1
        await bench.look(1)
        assert bench.number == 2
        assert bench.serial == renewed.certificate.serial_number
        assert said_by_watch(caplog) == []

    asyncio.run(scenario())


def test_a_pair_that_does_not_fit_keeps_the_old_and_takes_nothing_else_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(leaf(["other.test"], AUTHORITY), tmp_path, "other")

    def two(settings: dict[str, Any]) -> None:
        settings["listen"]["tls"]["certificates"] = [
            {
                "server_name": "other.test",
                "cert": str(tmp_path / "other.pem"),
                "key": str(tmp_path / "other.key"),
            }
        ]

    async def scenario() -> None:
        bench = Bench(tmp_path, two)
        await bench.look()
        before = bench.serial
        bench.certificate.write_bytes(leaf(NAMES, AUTHORITY).certificate_pem)
        other = leaf(["other.test"], AUTHORITY)
        write(other, tmp_path, "other")
        await bench.look(5)
        assert bench.number == 2
        (tls,) = bench.changes.running.tls
        serials = {chain.certificate.serial_number for chain in tls.selector.chains}
        assert serials == {before, other.certificate.serial_number}
        (said,) = set(said_by_watch(caplog))
        assert "server.pem" in said
        assert "does not belong" in said
        # Mended, it is taken.
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.number == 3
        assert bench.serial == renewed.certificate.serial_number

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())


def test_certificates_that_share_a_key_are_renewed_together(tmp_path: Path) -> None:
    def share(settings: dict[str, Any]) -> None:
        shared = leaf(["other.test"], AUTHORITY, key=load_key(tmp_path / "server.key"))
        (tmp_path / "other.pem").write_bytes(shared.certificate_pem)
        settings["listen"]["tls"]["certificates"] = [
            {
                "server_name": "other.test",
                "cert": str(tmp_path / "other.pem"),
                "key": str(tmp_path / "server.key"),
            }
        ]

    async def scenario() -> None:
        bench = Bench(tmp_path, share)
        await bench.look()
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.number == 1
        other = leaf(["other.test"], AUTHORITY, key=renewed.key)
        (tmp_path / "other.pem").write_bytes(other.certificate_pem)
        await bench.look()
        assert bench.number == 2

    asyncio.run(scenario())


def load_key(path: Path) -> EllipticCurvePrivateKey:
    """Return the key of a file."""
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return key


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_gone_or_broken_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        if content is None:
            bench.certificate.unlink()
        else:
            bench.certificate.write_bytes(content)
        await bench.look(5)
        assert bench.number == 1
        (said,) = said_by_watch(caplog)
        assert "server.pem" in said
        assert "what is in use stays" in said

    asyncio.run(scenario())


def test_a_certificate_out_of_date_does_not_replace_one_in_date(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        before = bench.serial
        write(leaf(NAMES, AUTHORITY, not_after=now() - datetime.timedelta(days=1)), tmp_path)
        await bench.look()
        assert "expired" in said_by_watch(caplog)[-1]
        write(leaf(NAMES, AUTHORITY, not_before=now() + datetime.timedelta(days=1)), tmp_path)
        await bench.look()
        assert "is not valid before" in said_by_watch(caplog)[-1]
        assert bench.serial == before

    asyncio.run(scenario())


def test_a_link_that_is_moved_is_followed_as_certbot_does_it(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()

    async def scenario() -> None:
        bench = Bench(tmp_path)
        for version in (1, 2):
            renewed = fresh(tmp_path / "archive", str(version))
            for name, link in ((".pem", bench.certificate), (".key", bench.key)):
                temporary = tmp_path / "link"
                temporary.symlink_to(tmp_path / "archive" / f"{version}{name}")
                os.replace(temporary, link)
            await bench.look()
            assert bench.serial == renewed.certificate.serial_number

    asyncio.run(scenario())


def test_a_directory_that_is_swapped_is_followed_as_kubernetes_does_it(tmp_path: Path) -> None:
    def version(number: int) -> Credentials:
        directory = tmp_path / f"..version{number}"
        directory.mkdir()
        made = fresh(directory)
        (tmp_path / "..data_tmp").symlink_to(directory.name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        return made

    async def scenario() -> None:
        bench = Bench(tmp_path)
        version(1)
        for link in (bench.certificate, bench.key):
            link.unlink()
            link.symlink_to(Path("..data") / link.name)
        await bench.look()
        renewed = version(2)
        shutil.rmtree(tmp_path / "..version1")
        await bench.look()
        assert bench.serial == renewed.certificate.serial_number

    asyncio.run(scenario())


def test_authorities_and_client_certificates_towards_backends_are_renewed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "authorities").mkdir()
    (tmp_path / "authorities" / "one.pem").write_bytes(ca("one").certificate_pem)
    write(client_leaf("proxy", AUTHORITY), tmp_path, "client")

    def both_ways(settings: dict[str, Any]) -> None:
        settings["upstream"]["backend"]["tls"] = {
            "ca_dir": str(tmp_path / "authorities"),
            "client_certificate": str(tmp_path / "client.pem"),
            "client_key": str(tmp_path / "client.key"),
        }

    async def scenario() -> None:
        bench = Bench(tmp_path, both_ways)
        await bench.look()
        (tmp_path / "authorities" / "two.pem").write_bytes(ca("two").certificate_pem)
        await bench.look()
        assert bench.number == 2
        renewed = client_leaf("proxy", AUTHORITY)
        (tmp_path / "client.pem").write_bytes(renewed.certificate_pem)
        await bench.look()
        assert bench.number == 2
        assert "client.key with" in said_by_watch(caplog)[-1]
        (tmp_path / "client.key").write_bytes(renewed.key_pem)
        await bench.look()
        assert bench.number == 3
        (fact,) = client_certificate_facts(bench.changes.running)
        assert fact.value == renewed.certificate.not_valid_after_utc.timestamp()

    asyncio.run(scenario())


def test_tokens_and_the_certificate_of_the_control_api_are_renewed_each_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(leaf(NAMES, AUTHORITY), tmp_path, "admin")

    def with_api(settings: dict[str, Any]) -> None:
        tls = {"cert": str(tmp_path / "admin.pem"), "key": str(tmp_path / "admin.key")}
        with_tokens(tmp_path, settings, tls=tls)

    async def scenario() -> None:
        bench = Bench(tmp_path, with_api)
        await bench.look()
        (tmp_path / "viewer.token").write_text("f" * 64)
        (tmp_path / "operator.token").write_text("short")
        fresh(tmp_path, "admin")
        await bench.look()
        assert bench.number == 2
        credentials = bench.changes.running.credentials
        callers = {token: credentials.who_shows(token.encode()) for token in TOKENS.values()}
        assert [caller and caller.name for caller in callers.values()] == [
            None, "the-operator", "the-admin",
        ]  # fmt: skip
        shown = credentials.who_shows(b"f" * 64)
        assert shown is not None
        assert shown.name == "the-viewer"
        assert (
            credentials.files[str(tmp_path / "admin.pem")] == (tmp_path / "admin.pem").read_bytes()
        )
        (said,) = said_by_watch(caplog)
        assert "operator.token holds no token" in said
        assert "f" * 64 not in bench.changes.record.reason
        # A certificate without its key is waited for, and what is taken once is not again.
        half = leaf(NAMES, AUTHORITY)
        (tmp_path / "admin.pem").write_bytes(half.certificate_pem)
        await bench.look(5)
        assert bench.number == 2
        assert "control_api.tls" in said_by_watch(caplog)[-1]
        (tmp_path / "admin.key").write_bytes(half.key_pem)
        await bench.look(5)
        assert bench.number == 3

    asyncio.run(scenario())


def test_renewal_waits_for_a_probation_and_what_was_taken_back_stays_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        before = InForce(bench.changes.running, bench.changes.record)
        bench.busy = True
        fresh(tmp_path)
        await bench.look(5)
        assert bench.number == 1
        bench.busy = False
        await bench.look(3)
        assert bench.number == 2
        # As a probation does: with the certificate as it was, though the file is the new one.
        old = before.candidate.tls[0].selector.chains[0].certificate.serial_number
        await bench.changes.restore(before, Asked("a test"))
        assert bench.serial == old
        await bench.look(5)
        assert bench.serial == old
        renewed = fresh(tmp_path)
        await bench.look()
        assert bench.serial == renewed.certificate.serial_number

    asyncio.run(scenario())


def test_a_change_that_cannot_be_made_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        await bench.look()
        bench.participant.failure = "worker 1 died"
        fresh(tmp_path)
        await bench.look(5)
        assert bench.number == 1
        assert sum("worker 1 died" in message for message in caplog.messages) == 2
        bench.participant.failure = ""
        bench.now += RETRY_SECONDS
        await bench.look()
        assert bench.number > 1

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())


def test_changes_are_counted_with_what_came_of_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        changes, asked = bench.changes, Asked("a test")
        assert not (await changes.reload(asked)).changed
        await changes.restart(asked)
        await changes.rollback(1, asked)
        changes.participants.append(failing := Failing())
        failing.failure = "worker 1 died"
        with pytest.raises(PrepareError):
            await changes.restart(asked)
        with pytest.raises(StaleError):
            await changes.restart(Asked("a test", generation=99))
        with pytest.raises(UnknownGenerationError):
            await changes.rollback(99, asked)
        await changes.preview(Path(changes.source))
        await changes.judge(Path(changes.source))
        facts = [fact for fact in changes.counts.facts() if fact.value]
        assert [(one.name, *(text for _, text in one.labels), one.value) for one in facts] == [
            ("runtime_validation_attempts_total", 1),
            ("runtime_preview_attempts_total", 1),
            ("runtime_activation_total", "unchanged", "reload", 1),
            ("runtime_activation_total", "success", "restart", 1),
            ("runtime_activation_total", "failure", "restart", 2),
            ("runtime_rollback_total", "unchanged", 1),
            ("runtime_rollback_total", "failure", 1),
            ("runtime_rejections_total", "not_prepared", 1),
            ("runtime_rejections_total", "stale", 1),
            ("runtime_rejections_total", "unknown_generation", 1),
        ]

    asyncio.run(scenario())


def test_a_part_that_cannot_be_undone_keeps_no_other_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path)
        first, last = bench.participant, Failing()
        bench.changes.participants = [first, stuck := Failing(), last]
        stuck.stuck, last.failure = True, "worker 1 died"
        with pytest.raises(PrepareError, match="worker 1 died"):
            await bench.changes.restart(Asked("a test"))
        assert (stuck.discarded, first.discarded, last.discarded) == (1, 1, 0)
        assert bench.number == 1

    asyncio.run(scenario())
    assert "a part of generation 2 is not undone" in caplog.text


def test_a_defect_of_one_watch_is_logged_with_its_name_and_ends_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: the next look of that one comes later."""
    failures = 0

    async def fail(self: ConfigurationWatch, now: float) -> None:
        nonlocal failures
        failures += 1
        raise ValueError("a defect")

    async def scenario() -> None:
        looks = 0

        async def look(self: CertificateWatch, now: float) -> None:
            nonlocal looks
            looks += 1

        monkeypatch.setattr(ConfigurationWatch, "look", fail)
        monkeypatch.setattr(CertificateWatch, "look", look)
        watch = FileWatch(Bench(tmp_path).changes, lambda: False)
        watch.start()
        await until(lambda: looks >= 20 and failures > 0)
        assert failures == 1
        # Said before it waits, not after that.
        assert "cannot look at files: ConfigurationWatch" in caplog.text
        watch.close()

    monkeypatch.setattr(file_watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(file_watch, "RETRY_SECONDS", 3600.0)
    asyncio.run(scenario())


def test_expiry_is_warned_of_at_each_step_and_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    (tls,) = bench.changes.running.tls
    end = tls.selector.chains[0].certificate.not_valid_after_utc
    warnings = ExpiryWarnings()
    said = []
    for days in (40, 31, 29, 20, 8, 6, 2, 0.5, 0.2, -0.1, -5):
        caplog.clear()
        warnings.look(bench.changes.running, end - datetime.timedelta(days=days))
        said.append(len(caplog.messages))
    assert said == [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0]


def test_what_an_expiry_warning_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    ExpiryWarnings().look(bench.changes.running, now() + datetime.timedelta(days=25))
    (said,) = caplog.messages
    assert f"for localhost, 127.0.0.1 in {bench.certificate} expires on" in said
    assert said.endswith("in 4 days")
    ExpiryWarnings().look(bench.changes.running, now() + datetime.timedelta(days=29, hours=10))
    assert caplog.messages[-1].endswith("in 13 hours")
    ExpiryWarnings().look(bench.changes.running, now() + datetime.timedelta(days=31))
    assert "expired on" in caplog.messages[-1]


def test_changes_are_told_when_they_are_over(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    stillness = Stillness()

    def has_come() -> bool:
        return stillness.has_come(states_of([str(one), str(two)]))

    one.write_text("1")
    assert [has_come() for _ in range(4)] == [False, True, False, False]
    one.write_text("22")
    assert not has_come()
    two.write_text("22")
    assert [has_come() for _ in range(3)] == [False, True, False]
    stillness.forget()
    assert [has_come() for _ in range(2)] == [True, False]


# --- the configuration ------------------------------------------------------------------------
def watched(settings: dict[str, Any]) -> None:
    """Have the configuration file watched."""
    settings["control"] = {"watch": True}


def edit(bench: Bench, history: int) -> None:
    """Change something in the file."""
    settings = yaml.safe_load(bench.path.read_text())
    settings["control"]["history"] = history
    bench.path.write_text(yaml.safe_dump(settings))


def test_an_edited_configuration_comes_in_force_where_it_asks_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look(3)
        assert bench.number == 1
        edit(bench, 20)
        await bench.look()
        assert bench.number == 2
        assert bench.changes.record.requested_by == "file watch"
        # What was taken back is not put in force again.
        await bench.changes.rollback(None, Asked("a test"))
        await bench.look(5)
        assert bench.number == 3
        edit(bench, 30)
        await bench.look()
        assert bench.number == 4

    asyncio.run(scenario())


def test_the_configuration_is_not_watched_by_default(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, lambda settings: settings.update(control={}))
        await bench.look()
        edit(bench, 20)
        await bench.look(5)
        assert bench.number == 1

    asyncio.run(scenario())


def test_a_broken_configuration_is_named_once_and_what_runs_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        good = bench.path.read_text()
        bench.path.write_text(good + "upsteam: {}\n")
        await bench.look(5)
        os.utime(bench.path)
        await bench.look(5)
        assert bench.number == 1
        (said,) = caplog.messages
        assert "generation 1 stays" in said
        assert "upsteam" in said
        bench.path.unlink()
        await bench.look(5)
        assert "No such file" in caplog.messages[-1]
        bench.path.write_text(good)
        edit(bench, 20)
        await bench.look()
        assert bench.number == 2

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())


def test_the_file_that_was_applied_last_is_watched(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, watched)
        await bench.look()
        other = tmp_path / "other.yaml"
        shutil.copy(bench.path, other)
        first = bench.path
        bench.path = other
        edit(bench, 20)
        await bench.changes.apply(other, Asked("a test"))
        await bench.look(3)
        assert bench.number == 2
        edit(bench, 30)
        await bench.look()
        assert bench.number == 3
        bench.path = first
        edit(bench, 40)
        await bench.look(5)
        assert bench.number == 3

    asyncio.run(scenario())


# --- with processes ---------------------------------------------------------------------------
def test_new_handshakes_get_a_renewed_certificate_and_old_connections_go_on(tmp_path: Path) -> None:
    async def presented(proxy: Served) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=plain_context())
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        assert isinstance(certificate, bytes)
        return certificate

    async def scenario() -> None:
        async with served(tmp_path, 1) as proxy:
            clients = [await proxy.client(ingress) for ingress in ("h3", "h2")]
            renewed = fresh(tmp_path)
            await until(lambda: "generation 2 is in force after" in proxy.log)
            # A worker that nobody asks anything looks for what is in force now and then only.
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await presented(proxy) != renewed.der:
                    await asyncio.sleep(0.02)
            for client in clients:
                assert (await client.fetch("GET", "/echo")).status == 200
            code, output = await proxy.command("history")
            assert code == 0
            assert "renewal" in output
            assert "certificate watch: renewed: " in output

    run(scenario)
