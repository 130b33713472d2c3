"""The lab uses no cache that another user can change: root boots and runs what is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import cache, trusted_paths
from kvmprobe.model.errors import EXIT_INCONCLUSIVE, Problem
from tests.helpers import lab_images
from tests.helpers.run_kvmprobe import kvmprobe

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")

_OTHER = 12345  # a user ID


def _make(new: Path) -> cache.Meta:
    (new / "file").write_text("content")
    return {}


def _ignore(line: str) -> None:
    del line


def _given_away(path: Path) -> None:
    os.chown(path, _OTHER, _OTHER)


def _for_all(path: Path) -> None:
    path.chmod(0o777)


def _for_a_group(path: Path) -> None:
    path.chmod(0o775)
    os.chown(path, -1, _OTHER)


@pytest.mark.parametrize("part", ["", "home", "home/cache", "home/cache/kernels", "home/cache/kernels/a"])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(_given_away, "belongs to the user with the ID 12345", marks=needs_root),
        pytest.param(_for_a_group, "can be written by the group with the ID 12345", marks=needs_root),
        (_for_all, "can be written by everybody"),
    ],
)
def test_a_folder_that_another_user_can_change(
    spoil: Callable[[Path], None], why: str, part: str, tmp_path: Path
) -> None:
    kernels = tmp_path / "top/home/cache/kernels"
    place, _ = cache.entry(kernels, "a", _make, _ignore)
    spoil(tmp_path / "top" / part)
    before = sorted(path.name for path in kernels.iterdir())
    for name in ("a", "b"):
        if name == "b" and part.endswith("/a"):
            continue
        with pytest.raises(Problem, match=why) as caught:
            cache.entry(kernels, name, _make, _ignore)
        assert "--cache DIR" in str(caught.value.hint)
    assert sorted(path.name for path in kernels.iterdir()) == before
    assert (place / "file").read_text() == "content"


def test_a_folder_in_tmp_is_trusted_and_tmp_is_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert trusted_paths.resolved(tmp_path / "new/folder") == tmp_path / "new/folder"
    with pytest.raises(Problem, match="can be written by everybody"):
        cache.entry(tmp_path, "a", _make, _ignore)


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("open/cache")
    with pytest.raises(Problem, match="can be written by everybody"):
        cache.entry(tmp_path / "link", "a", _make, _ignore)
    (tmp_path / "open").chmod(0o755)
    place, _ = cache.entry(tmp_path / "link", "a", _make, _ignore)
    assert place == tmp_path / "open/cache/a"


def test_a_lock_that_is_a_link_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / ".a.lock").symlink_to("precious")
    with pytest.raises(Problem, match=r"\.a\.lock"):
        cache.entry(tmp_path, "a", _make, _ignore)
    assert (tmp_path / "precious").read_text() == "content"


def test_a_file_that_everybody_can_write_is_made_again(tmp_path: Path) -> None:
    place, _ = cache.entry(tmp_path, "a", _make, _ignore)
    (place / "file").chmod(0o666)
    cache.entry(tmp_path, "a", _make, _ignore)
    assert (place / "file").stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_no_umask_makes_a_cache_that_is_not_trusted(umask: int, tmp_path: Path) -> None:
    old = os.umask(umask)
    try:
        for _ in range(2):
            place, _ = cache.entry(tmp_path / "home/cache", "a", _make, _ignore)
    finally:
        os.umask(old)
    assert (place / "file").stat().st_mode & 0o022 == 0


@needs_root
@pytest.mark.parametrize("command", ["run bookworm", "run --kernel {0} --modules {1}", "matrix --only epyc"])
def test_the_home_of_another_user(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root with the HOME of a user: neither is anything made there, nor does anything run from there."""
    home = tmp_path / "home"
    home.mkdir()
    _given_away(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(lab_images.vmlinux())
    modules = tmp_path / "6.1"
    modules.mkdir()
    (modules / "modules.builtin").touch()  # A folder without it has no modules, which is refused first.
    done = kvmprobe("lab", *command.format(kernel, modules).split())
    assert (done.returncode, done.stdout) == (EXIT_INCONCLUSIVE, "")
    assert f"{home} belongs to the user with the ID 12345" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert list(home.iterdir()) == []
