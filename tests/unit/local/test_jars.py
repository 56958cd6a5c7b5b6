import hashlib
import shutil
from pathlib import Path

import pytest

from fairline.local import jars, prepare
from fairline.local.errors import StackError


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Two jars in a folder, and a lock that names them."""
    (tmp_path / "jars").mkdir()
    lines = []
    for name in ("a-1.jar", "b-2.jar"):
        (tmp_path / "jars" / name).write_text(f"content of {name}")
        sha256 = hashlib.sha256(f"content of {name}".encode()).hexdigest()
        lines.append(f"{sha256}  org/example/{name[0]}/{name[2]}/{name}\n")
    lock = tmp_path / "test.sha256"
    lock.write_text("".join(lines))
    return lock


def test_the_jars_of_the_lock_pass(lock: Path) -> None:
    jars.check(lock.parent / "jars", lock)


def test_a_folder_of_jars_named_from_here_is_found_from_anywhere(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lock.parent)
    found = jars.folder({"FAIRLINE_KAFKA_JARS": "jars"})
    monkeypatch.chdir("/")
    jars.check(found, lock)


def test_a_jar_that_differs_is_refused(lock: Path) -> None:
    (lock.parent / "jars" / "a-1.jar").write_text("tampered")
    with pytest.raises(StackError, match=r"a-1.jar differs.*run make setup"):
        jars.check(lock.parent / "jars", lock)


def test_a_jar_that_is_missing_is_refused(lock: Path) -> None:
    (lock.parent / "jars" / "a-1.jar").unlink()
    with pytest.raises(StackError, match=r"a-1\.jar is missing"):
        jars.check(lock.parent / "jars", lock)


def test_a_jar_that_is_extra_is_refused(lock: Path) -> None:
    (lock.parent / "jars" / "c-3.jar").write_text("")
    with pytest.raises(StackError, match=r"c-3\.jar is not in the lock"):
        jars.check(lock.parent / "jars", lock)


def test_without_any_jar_set_up_is_asked_for(lock: Path) -> None:
    with pytest.raises(StackError, match="run make setup"):
        jars.check(lock.parent / "nowhere", lock)


def test_set_up_does_nothing_the_second_time(lock: Path) -> None:
    assert prepare.prepare(lock.parent / "jars", lock) is False


def test_set_up_refuses_a_jar_that_came_differently_and_keeps_nothing(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = lock.parent / "wrong"
    wrong.mkdir()
    monkeypatch.setattr(prepare, "_repository", lambda _: None)
    monkeypatch.setattr(prepare, "_fetch", lambda _, path: shutil.copy(lock, wrong / path.name))
    target = lock.parent / "target"
    with pytest.raises(StackError, match="differs"):
        prepare.prepare(target, lock)
    assert not target.exists()


def test_the_committed_lock_names_kafka_and_its_logging() -> None:
    names = {path.name for path in jars.locked()}
    assert {"kafka_2.13-4.4.0.jar", "kafka-clients-4.4.0.jar", "log4j-core-2.25.5.jar"} <= names
    assert all(len(sha256) == 64 for sha256 in jars.locked().values())
