"""The history of generations: what survives crashes, broken files, and going back."""

import os
import shutil
import stat
from pathlib import Path

import msgspec
import pytest

from spooky.control.history import LOCK_NAME, History, HistoryError, Record, Source


def record(number: int, text: str = "", origin: int | None = None) -> Record:
    """Return a generation; its text is its number unless given."""
    return Record(
        number=number,
        time=1000.0 + number,
        source=Source.APPLY,
        path="/etc/spooky/config.yaml",
        text=text or f"# {number}\n",
        files={"/cert.pem": "00"},
        origin=number if origin is None else origin,
        requested_by="a test",
    )


def walk_back(history: History) -> list[int]:
    """Go back as often as it goes; return what that came to."""
    walked = []
    while (target := history.before(history.next_number - 1)) is not None:
        walked.append(target.origin)
        history.add(record(history.next_number, target.text, target.origin))
    return walked


def test_generations_outlive_the_process(tmp_path: Path) -> None:
    history = History(tmp_path / "state", 10)
    history.add(record(1))
    history.add(record(2))
    history.close()
    again = History(tmp_path / "state", 10)
    assert list(again) == [record(1), record(2)]
    assert again.newest == record(2)
    assert again.next_number == 3


def test_only_the_owner_reads_them(tmp_path: Path) -> None:
    History(tmp_path / "state", 10).add(record(1))
    (file,) = (tmp_path / "state").glob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_oldest_beyond_the_limit_go(tmp_path: Path) -> None:
    history = History(tmp_path, 3)
    for number in range(1, 6):
        history.add(record(number))
    assert [one.number for one in history] == [3, 4, 5]
    history.close()
    history = History(tmp_path, 3)
    assert [one.number for one in history] == [3, 4, 5]
    history.keep(2)
    history.close()
    assert [one.number for one in History(tmp_path, 9)] == [4, 5]


@pytest.mark.parametrize("kept", [0, 10, 64, 65, 100])
def test_a_truncated_file_takes_no_other_away(tmp_path: Path, kept: int) -> None:
    history = History(tmp_path, 10)
    history.add(record(1))
    history.add(record(2))
    history.close()
    newest = max(tmp_path.glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:kept])
    assert [one.number for one in History(tmp_path, 10)] == [1]


def test_a_changed_file_is_not_used(tmp_path: Path) -> None:
    history = History(tmp_path, 10)
    history.add(record(1, text="first"))
    history.close()
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(file.read_bytes().replace(b"first", b"First"))
    assert len(History(tmp_path, 10)) == 0


def test_what_a_crash_left_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".0000000007.json.new").write_bytes(b"half")
    assert len(History(tmp_path, 10)) == 0
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_what_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    history = History(tmp_path / "state", 10)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(HistoryError, match="state"):
        history.add(record(1))
    assert len(history) == 0


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path, 10)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HistoryError, match="No space left"):
        history.add(record(1))
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_a_history_has_one_user_and_its_place_is_nobody_elses(tmp_path: Path) -> None:
    place = tmp_path / "state"
    history = History(place, 10)
    with pytest.raises(HistoryError, match="another Spooky uses it"):
        History(place, 10)
    history.close()
    place.chmod(0o770)
    with pytest.raises(HistoryError, match="others can write"):
        History(place, 10)
    place.chmod(0o700)
    (place / LOCK_NAME).unlink()
    (place / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HistoryError, match="symbolic link"):
        History(place, 10)
    assert not (tmp_path / "elsewhere").exists()
    if os.geteuid() == 0:
        (place / LOCK_NAME).unlink()
        os.chown(place, 12345, 12345)
        with pytest.raises(HistoryError, match="belongs to another user"):
            History(place, 10)


def test_going_back_again_goes_further_back(tmp_path: Path) -> None:
    history = History(None, 10)
    for number in (1, 2, 3):
        history.add(record(number))
    assert walk_back(history) == [2, 1]
    history.add(record(history.next_number, "new"))
    before = history.before(history.next_number - 1)
    assert before is not None
    assert before.origin == 1


def test_going_back_does_not_push_out_what_it_goes_to(tmp_path: Path) -> None:
    history = History(tmp_path, 6)
    for number in range(21, 27):
        history.add(record(number))
    # The newest takes the place of one; the copies before it go first.
    assert walk_back(history) == [25, 24, 23, 22]
    assert [one.number for one in history] == [22, 23, 24, 25, 26, 30]
    history.close()
    assert [one.number for one in History(tmp_path, 6)] == [22, 23, 24, 25, 26, 30]


@pytest.mark.parametrize(("limit", "kept"), [(1, [9]), (2, [3, 9]), (3, [3, 4, 9])])
def test_the_way_back_stays_as_long_as_there_is_room(limit: int, kept: list[int]) -> None:
    history = History(None, 10)
    for number in range(1, 9):
        history.add(record(number))
    history.add(record(9, record(4).text, 4))
    history.keep(limit)
    assert [one.number for one in history] == kept


def test_a_copy_that_the_way_back_leads_to_stays() -> None:
    history = History(None, 3)
    for one in (record(1), record(2), record(3, record(1).text, 1)):
        history.add(one)
    history.add(record(4))
    before = history.before(4)
    assert before is not None
    assert before.text == record(1).text


def test_what_a_broken_file_is_replaced_by_is_never_pushed_out() -> None:
    history = History(None, 2)
    history.add(record(1))
    for number in range(2, 6):
        history.add(msgspec.structs.replace(record(number, record(1).text, 1), unproven=True))
    proven = history.newest_proven
    assert proven is not None
    assert proven.number == 1


def test_going_back_leaves_out_what_did_not_prove_itself() -> None:
    history = History(None, 10)
    history.add(record(1))
    history.add(msgspec.structs.replace(record(2), unproven=True))
    history.add(record(3))
    before = history.before(3)
    assert before is not None
    assert before.number == 1


def test_the_last_good_one_of_a_service_is_none_of_another() -> None:
    history = History(None, 10)
    history.add(record(1))
    history.add(msgspec.structs.replace(record(2), service="/etc/a.yaml"))
    history.add(msgspec.structs.replace(record(3), service="/etc/b.yaml", path="/etc/b.yaml"))
    found = {
        file: one and one.number
        for file in ("/etc/a.yaml", "/etc/b.yaml", "/etc/spooky/config.yaml", "/etc/c.yaml")
        for one in [history.newest_proven_of(file)]
    }
    assert found == {
        "/etc/a.yaml": 2, "/etc/b.yaml": 3, "/etc/spooky/config.yaml": 2, "/etc/c.yaml": None,
    }  # fmt: skip


def test_it_moves_to_another_directory_and_never_into_another_history(tmp_path: Path) -> None:
    history = History(tmp_path / "one", 10)
    history.add(record(1))
    history.move(tmp_path / "two").close()
    history.add(record(2))
    other = History(tmp_path / "other", 10)
    other.add(record(5))
    with pytest.raises(HistoryError, match="another Spooky uses it"):
        history.move(tmp_path / "other")
    other.close()
    with pytest.raises(HistoryError, match="another history"):
        history.move(tmp_path / "other")
    assert history.directory == tmp_path / "two"
    # Where it was before is its own, whatever was kept or let go meanwhile.
    history.keep(1)
    history.move(tmp_path / "one").close()
    history.close()
    assert [one.number for one in History(tmp_path / "one", 10)] == [2]


def test_a_renewed_certificate_does_not_stand_in_the_way_back() -> None:
    """A rollback restores texts; what differs in files alone would change nothing."""
    history = History(None, 10)
    history.add(record(1, "old"))
    history.add(record(2, "new"))
    history.add(msgspec.structs.replace(record(3, "new"), files={"/cert.pem": "11"}))
    before = history.before(3)
    assert before is not None
    assert before.number == 1


def test_a_file_that_is_not_used_is_never_written_over(tmp_path: Path) -> None:
    History(tmp_path, 10).add(record(1))
    (tmp_path / "0000000007.json").write_text("of another version")
    assert History(tmp_path, 10).next_number == 8
