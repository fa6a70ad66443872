"""Which files of a folder are whole: decided by looks at given times, without waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.landing import Landing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drop" / "ETCH01").mkdir(parents=True)
    return tmp_path / "drop"


def names(landing: Landing, now_s: float) -> list[str]:
    return [Path(path).name for path in landing.ready(now_s)]


def test_a_file_is_whole_when_it_has_not_changed_for_a_while(folder: Path) -> None:
    landing = Landing(folder, 2.0)
    file = folder / "ETCH01" / "1.hsms"
    file.write_bytes(b"begun")
    landing.scan(10.0)
    assert names(landing, 11.9) == []
    file.write_bytes(b"begun, and more")
    landing.scan(12.0)
    assert names(landing, 12.1) == []
    landing.scan(13.9)
    assert names(landing, 13.9) == []
    assert names(landing, 14.0) == ["1.hsms"]


def test_a_change_after_the_last_look_is_noticed(folder: Path) -> None:
    landing = Landing(folder, 2.0)
    file = folder / "1.hsms"
    file.write_bytes(b"begun")
    landing.scan(0.0)
    assert landing.unchanged(str(file))
    with file.open("ab") as appended:
        appended.write(b"!")
    assert not landing.unchanged(str(file))
    file.unlink()
    assert not landing.unchanged(str(file))
    assert not landing.unchanged(str(folder / "never seen"))


def test_what_was_taken_is_offered_again_only_when_it_changes(folder: Path) -> None:
    landing = Landing(folder, 2.0)
    file = folder / "1.hsms"
    file.write_bytes(b"one")
    landing.scan(0.0)
    landing.take(str(file))
    landing.scan(5.0)
    assert names(landing, 9.0) == []
    assert landing.waiting == 0
    replacement = folder / ".new"
    replacement.write_bytes(b"two")
    os.utime(replacement, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    replacement.rename(file)  # same name, size and time: another file all the same
    landing.scan(10.0)
    assert names(landing, 12.0) == ["1.hsms"]


def test_a_file_that_was_put_off_waits(folder: Path) -> None:
    landing = Landing(folder, 2.0)
    file = folder / "1.hsms"
    file.write_bytes(b"one")
    landing.scan(0.0)
    landing.put_off(str(file), 60.0)
    landing.scan(30.0)
    assert names(landing, 59.0) == []
    assert landing.waiting == 1
    assert names(landing, 60.0) == ["1.hsms"]


def test_empty_hidden_and_special_files_stay_out(folder: Path) -> None:
    (folder / "empty.hsms").touch()
    (folder / ".hidden.hsms").write_bytes(b"1")
    (folder / ".partial").mkdir()
    (folder / ".partial" / "1.hsms").write_bytes(b"1")
    os.mkfifo(folder / "pipe.hsms")
    landing = Landing(folder, 1.0)
    landing.scan(0.0)
    assert names(landing, 9.0) == []
    assert landing.news() == []


def test_links_that_lead_outside_are_refused_and_named_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.hsms").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.hsms").write_bytes(b"1")
    (folder / "1.hsms").write_bytes(b"1")
    (folder / "a.hsms").symlink_to("../secret.hsms")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "c.hsms").symlink_to(folder / "1.hsms")
    (folder / "d.hsms").symlink_to("nowhere.hsms")
    landing = Landing(folder, 1.0)
    landing.scan(0.0)
    assert names(landing, 9.0) == ["1.hsms", "c.hsms"]
    told = landing.news()
    assert [line.split(":")[0] for line in told] == [str(folder / "a.hsms"), str(folder / "b")]
    assert all("leads outside" in line for line in told)
    landing.scan(1.0)
    assert landing.news() == []
    (folder / "a.hsms").unlink()
    landing.scan(2.0)
    (folder / "a.hsms").symlink_to("../secret.hsms")
    landing.scan(3.0)
    assert len(landing.news()) == 1


def test_a_folder_that_goes_away_is_named_and_its_files_are_forgotten(folder: Path) -> None:
    (folder / "1.hsms").write_bytes(b"1")
    landing = Landing(folder, 1.0)
    landing.scan(0.0)
    folder.rename(folder.with_name("gone"))
    landing.scan(1.0)
    assert landing.ready(9.0) == []
    assert "can't be listed" in landing.news()[0]
    folder.with_name("gone").rename(folder)
    landing.scan(2.0)
    assert names(landing, 3.0) == ["1.hsms"]
