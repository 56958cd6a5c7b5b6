from pathlib import Path

from fairline.local import archive
from fairline.local.providers import Found


def java(home: Path, modules: str) -> Found:
    (home / "bin").mkdir(parents=True, exist_ok=True)
    (home / "lib").mkdir(exist_ok=True)
    (home / "bin" / "java").touch()
    (home / "lib" / "modules").write_text(modules)
    return Found(home / "bin" / "java", "java", (17,))


def test_each_java_has_an_archive_of_its_own_beside_the_jars(tmp_path: Path) -> None:
    libs = tmp_path / "kafka-4.4.0"
    first = archive.place(java(tmp_path / "a", "17.0.1"), libs)
    assert first.parent == tmp_path
    assert first != archive.place(java(tmp_path / "b", "17.0.1"), libs)
    assert first != archive.place(java(tmp_path / "a", "17.0.10"), libs)
    assert first == archive.place(java(tmp_path / "a", "17.0.1"), libs)


def test_without_an_archive_java_gets_no_option_for_one(tmp_path: Path) -> None:
    this, libs = java(tmp_path / "a", "17"), tmp_path / "kafka-4.4.0"
    assert archive.options(this, libs) == []
    archive.place(this, libs).touch()
    assert archive.options(this, libs) == [f"-XX:SharedArchiveFile={archive.place(this, libs)}"]
