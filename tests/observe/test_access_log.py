"""The access log."""

import json
import logging
import os
from pathlib import Path

import pytest

from spooky._core import reasons
from spooky._core.access_record import AccessRecord
from spooky.observe.access_log import BUFFER_MAX_BYTES, AccessLog


def finished_record(path: bytes = b"/a") -> AccessRecord:
    record = AccessRecord("00aa1", started=10.0)
    record.take_raw_head([(b":method", b"GET"), (b":path", path), (b":authority", b"example.org")])
    record.upstream_connected(10.001, "h2")
    record.response_head(10.004, 200)
    record.bytes_sent = 12
    record.close(10.010, reasons.COMPLETED, b"192.0.2.1", 4433, "h3")
    return record


def written(as_json: bool, record: AccessRecord, tmp_path: Path) -> str:
    path = tmp_path / "access.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = AccessLog(descriptor, as_json)
    log.write(record)
    log.flush()
    os.close(descriptor)
    return path.read_text()


def test_a_json_line_has_every_value(tmp_path: Path) -> None:
    line = json.loads(written(True, finished_record(), tmp_path))
    assert line.pop("time").endswith("Z")
    assert line == {
        "request_id": "00aa1",
        "client": "192.0.2.1",
        "client_port": 4433,
        "method": "GET",
        "authority": "example.org",
        "path": "/a",
        "protocol": "h3",
        "early_data": False,
        "upstream_protocol": "h2",
        "status": 200,
        "bytes_received": 0,
        "bytes_sent": 12,
        "duration_ms": 10.0,
        "connect_ms": 1.0,
        "first_byte_ms": 4.0,
        "upstream": None,
        "backend": None,
        "tries": 0,
        "hedged": False,
        "stage": "end",
        "reason": "completed",
        "detail": None,
    }


@pytest.mark.parametrize("as_json", [True, False])
def test_control_bytes_of_clients_never_reach_the_log(as_json: bool, tmp_path: Path) -> None:
    hostile = b'/x\r\n\x1b[31m"forged="1 \xff\x00\xc2\x85'
    text = written(as_json, finished_record(hostile), tmp_path)
    assert text.count("\n") == 1
    assert all(character.isprintable() for character in text.rstrip("\n"))


def test_a_plain_line_splits_at_spaces_whatever_the_path(tmp_path: Path) -> None:
    text = written(False, finished_record(b'/a b" reason=forged'), tmp_path)
    assert ' path="/a b\\" reason=forged" ' in text


def test_a_plain_line_says_yes_and_no_as_json_does(tmp_path: Path) -> None:
    assert " tries=0 hedged=false " in written(False, finished_record(), tmp_path)


def test_the_query_stays_out_of_the_log(tmp_path: Path) -> None:
    assert "secret" not in written(True, finished_record(b"/a?token=secret"), tmp_path)


def test_a_log_that_takes_nothing_is_bounded_and_counts_what_it_drops() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer, as_json=True)
    for _ in range(10_000):
        log.write(finished_record(b"/" + b"x" * 500))
        log.flush()
    assert log.dropped_lines > 0
    assert log._size <= BUFFER_MAX_BYTES
    os.close(reader)
    os.close(writer)


def test_a_closed_log_costs_lines_and_not_the_worker() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer, as_json=True)
    log.write(finished_record())
    log.flush()
    assert log.dropped_lines == 1
    os.close(writer)


def test_a_full_disk_is_told_once_and_so_is_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("spooky"), "propagate", True)
    full = os.open("/dev/full", os.O_WRONLY)
    log = AccessLog(full, as_json=True)
    for _ in range(3):
        log.write(finished_record())
        log.flush()
    log.reopen(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    for _ in range(2):
        log.write(finished_record())
        log.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "No space left on device" in caplog.records[0].getMessage()
    assert "3 lines were lost" in caplog.records[1].getMessage()
    os.close(full)


def test_a_reader_that_is_too_slow_is_told_once_while_it_takes_a_part(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("spooky"), "propagate", True)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer, as_json=True)
    for _ in range(50):
        while log.dropped_lines == 0 or len(caplog.records) == 0:
            log.write(finished_record())
            log.flush()
        os.read(reader, 4096)
        for _ in range(50):
            log.write(finished_record())
        log.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_lines_go_to_the_new_file_after_a_reopen(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    descriptors = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in (old, new)]
    log = AccessLog(descriptors[0], as_json=True)
    log.write(finished_record(b"/before"))
    log.reopen(descriptors[1])
    log.write(finished_record(b"/after"))
    log.flush()
    for descriptor in descriptors:
        os.close(descriptor)
    assert "/before" in old.read_text()
    assert "/after" in new.read_text()
    assert "/after" not in old.read_text()
