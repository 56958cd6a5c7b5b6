import json
import os
import shutil
from pathlib import Path

import pytest

from fairline.local.errors import StackError, writing
from fairline.local.folder import DataFolder, holder


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "deep" / "data")
    data.open()
    try:
        secret = data.secret("key", "fl_admin_")
        assert secret.startswith("fl_admin_")
        assert data.secret("key") == secret
        assert data.path.stat().st_mode & 0o777 == 0o700
        assert (data.path / "secrets.json").stat().st_mode & 0o777 == 0o600
        assert tmp_path.stat().st_mode & 0o777 == 0o700  # as pytest made it
    finally:
        data.close()


def test_a_folder_with_other_things_in_it_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="files in it that are not Fairline's: name an empty or new folder"):
        DataFolder(tmp_path).open()
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StackError, match="is not a folder"):
        DataFolder(tmp_path / "data").open()


@pytest.mark.parametrize("path", ["file/data", "x" * 300, "/proc/none", "loop/data", "dangling"])
def test_a_folder_that_cannot_be_is_said_in_a_sentence(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("disk-that-is-not-mounted")
    with pytest.raises(StackError, match=r"cannot be a folder \(.+\): name another with --data"):
        DataFolder(tmp_path / path).open()


def test_a_start_that_ended_before_the_folder_was_marked_does_not_make_it_foreign(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / ".fairline.json.new").write_text('{"for')
    data = DataFolder(tmp_path)
    data.open()
    data.close()


def test_another_users_stack_is_refused_before_its_files_change_hands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataFolder(tmp_path / "data")
    data.open()
    data.close()
    before = {file: file.stat().st_mtime_ns for file in data.path.iterdir()}
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(StackError, match=r"is another user's \(.+\): start it as that user"):
        data.open()
    assert {file: file.stat().st_mtime_ns for file in data.path.iterdir()} == before


def test_a_folder_is_held_once_at_a_time(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    first.open()
    assert holder(first.path) == os.getpid()
    with pytest.raises(StackError, match=r"A stack runs in .* already"):
        DataFolder(first.path).open()
    first.close()
    first.close()
    assert holder(first.path) is None
    again = DataFolder(first.path)
    again.open()
    again.close()


def test_a_folder_of_a_newer_fairline_is_refused(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.open()
    data.close()
    (data.path / "fairline.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(StackError, match="made by a newer Fairline"):
        data.open()
    assert holder(data.path) is None


def test_a_disk_without_room_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(StackError, match="is full: free some space there"):
        DataFolder(tmp_path / "data").open()


def test_a_write_to_a_full_disk_is_said_in_a_sentence() -> None:
    with pytest.raises(StackError, match="is full"), writing(Path("/dev")), Path("/dev/full").open("w") as full:
        full.write("x" * 100_000)


def test_the_clean_mark_is_taken_once(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.open()
    try:
        assert data.take_clean_mark() is None
        data.set_clean_mark("abc")
        assert data.take_clean_mark() == "abc"
        assert data.take_clean_mark() is None
    finally:
        data.close()
