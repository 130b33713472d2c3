"""A cache entry is complete or does not exist."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from kvmprobe.lab import cache, content_digest
from kvmprobe.model.errors import Interrupted, Problem


def _make(new: Path) -> cache.Meta:
    (new / "file").write_text("content")
    return {"release": "6.1"}


def _never(new: Path) -> cache.Meta:
    raise AssertionError("made again")


def _ignore(line: str) -> None:
    del line


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    assert cache.entry(tmp_path / "c", "a", _make, _ignore) == (tmp_path / "c/a", {"release": "6.1"})
    assert cache.entry(tmp_path / "c", "a", _never, _ignore) == (tmp_path / "c/a", {"release": "6.1"})
    assert (tmp_path / "c/a/file").read_text() == "content"


@pytest.mark.parametrize("error", [Problem("no network"), Interrupted(15), KeyboardInterrupt(), OSError(28, "full")])
def test_nothing_incomplete_stays(error: BaseException, tmp_path: Path) -> None:
    def fail(new: Path) -> cache.Meta:
        _make(new)
        raise error

    with pytest.raises(Problem if isinstance(error, OSError) else type(error)):
        cache.entry(tmp_path, "a", fail, _ignore)
    assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]


@pytest.mark.parametrize("damage", ["file", "entry.json"])
@pytest.mark.parametrize("content", [None, "", "[]", '{"sizes": 1}'])
def test_a_damaged_entry_is_made_again(damage: str, content: str | None, tmp_path: Path) -> None:
    place, _ = cache.entry(tmp_path, "a", _make, _ignore)
    if content is None:
        (place / damage).unlink()
    else:
        (place / damage).write_text(content)
    cache.entry(tmp_path, "a", _make, _ignore)
    assert (place / "file").read_text() == "content"


def test_an_entry_with_other_content_of_the_same_size_is_made_again(tmp_path: Path) -> None:
    place, _ = cache.entry(tmp_path, "a", _make, _ignore)
    (place / "file").write_text("c0ntent")
    cache.entry(tmp_path, "a", _make, _ignore)
    assert (place / "file").read_text() == "content"


@pytest.mark.parametrize("change", ["content", "link", "mode", "name"])
def test_the_folders_of_an_entry_are_compared_too(change: str, tmp_path: Path) -> None:
    def make(new: Path) -> cache.Meta:
        (new / "root/usr/bin").mkdir(parents=True)
        (new / "root/usr/bin/python3").write_text("python")
        (new / "root/bin").symlink_to("usr/bin")
        return {}

    place, _ = cache.entry(tmp_path, "a", make, _ignore)
    before = content_digest.of(place / "root")
    program = place / "root/usr/bin/python3"
    if change == "content":
        program.write_text("PYTHON")
    elif change == "link":
        (place / "root/bin").unlink()
        (place / "root/bin").symlink_to("/tmp/bin")
    elif change == "mode":
        program.chmod(0o755)
    else:
        program.rename(program.with_name("python4"))
    assert content_digest.of(place / "root") != before


def test_an_entry_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    """It has no digests. Its sizes and owners are checked, and the digests are added."""
    place, _ = cache.entry(tmp_path, "a", _make, _ignore)
    stored = json.loads((place / "entry.json").read_text())
    digests = stored.pop("sha256")
    (place / "entry.json").write_text(json.dumps(stored))
    (place / "file").write_text("c0ntent")
    (place / "file").write_text("content")
    cache.entry(tmp_path, "a", _never, _ignore)
    assert json.loads((place / "entry.json").read_text())["sha256"] == digests


def test_the_files_of_a_killed_lab_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.new").mkdir()
    (tmp_path / ".a.new/half").write_text("half")
    place, _ = cache.entry(tmp_path, "a", _make, _ignore)
    assert sorted(path.name for path in place.iterdir()) == ["entry.json", "file"]


def test_several_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    progress: list[str] = []

    def slowly(new: Path) -> cache.Meta:
        made.append(new)
        time.sleep(0.3)
        return _make(new)

    threads = [threading.Thread(target=cache.entry, args=(tmp_path, "a", slowly, progress.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(progress) == 3
    assert "waiting" in progress[0]


def test_unused_entries_are_deleted(tmp_path: Path) -> None:
    old, _ = cache.entry(tmp_path, "custom-1", _make, _ignore)
    new, _ = cache.entry(tmp_path, "custom-2", _make, _ignore)
    other, _ = cache.entry(tmp_path, "bookworm", _make, _ignore)
    for place in (old, other):
        os.utime(place, (1, 1))
    cache.forget_unused(tmp_path, "custom-", 3600)
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match=r"Not a directory|File exists"):
        cache.entry(tmp_path / "file", "a", _make, _ignore)


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default() == Path("/somewhere/kvmprobe")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.default() == Path("/home/user/.cache/kvmprobe")
