"""modprobe's answers, by programs of that name: whatever it does is kept as evidence."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe import modprobe, programs
from kvmprobe.files import Root

Modprobe = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modprobe:
    """Puts a modprobe where kvmprobe looks for it."""

    def put(content: str, mode: int = 0o755) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "modprobe").write_text(content)
        (folder / "modprobe").chmod(mode)
        monkeypatch.setattr(programs, "_PATH", f"{folder}:/usr/bin:/bin")

    return put


@pytest.mark.parametrize(
    ("content", "mode", "status", "output"),
    [
        ("#!/bin/sh\nexit 0\n", 0o755, 0, ""),
        ("#!/bin/sh\necho no such module >&2; exit 1\n", 0o755, 1, "no such module"),
        ("#!/bin/sh\nprintf '\\377'; exit 255\n", 0o755, 255, "\ufffd"),
        ("#!/bin/sh\nkill -9 $$\n", 0o755, -9, ""),
        ("#!/nonexistent\n", 0o755, None, "cannot be run: No such file or directory"),
        ("not a program", 0o755, None, "cannot be run: Exec format error"),
        ("#!/bin/sh\n", 0o644, None, "cannot be run: Permission denied"),
    ],
)
def test_its_answer_is_kept(content: str, mode: int, status: int | None, output: str, fake: Modprobe) -> None:
    fake(content, mode)
    answer = programs.run("modprobe", "msr")
    assert answer[0] == status
    assert answer[1].endswith(output)


def test_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_PATH", str(tmp_path))
    assert programs.run("modprobe", "msr") == (None, f"there is no modprobe in {tmp_path}")


def test_it_hangs(fake: Modprobe, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(programs, "_DEADLINE_S", 0.2)
    assert programs.run("modprobe", "msr") == (None, "modprobe did not end within 0 s")


def test_it_hangs_in_the_kernel(fake: Modprobe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a module's init does: no signal ends it."""
    fake("#!/bin/sh\nexec sleep 600\n")
    killed: list[int] = []
    with monkeypatch.context() as deaf:
        deaf.setattr(programs, "_DEADLINE_S", 0.2)
        deaf.setattr(programs, "_KILL_S", 0.2)
        deaf.setattr(os, "kill", lambda pid, signum: killed.append(pid))
        assert programs.run("modprobe", "msr") == (None, "modprobe did not end within 0 s, nor by SIGKILL")
    (pid,) = killed
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_when_one_of_two_fails_each_has_its_own_answer(fake: Modprobe, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake('#!/bin/sh\ncase "$*" in *msr*) echo "no msr"; exit 1;; esac\n')
    attempts = modprobe.load(Root(str(tmp_path)), "msr", "cpuid")
    assert [(a["module"], a["status"], a["output"]) for a in attempts] == [("msr", 1, "no msr"), ("cpuid", 0, "")]


def test_one_that_hangs_is_not_tried_again(fake: Modprobe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake(f"#!/bin/sh\necho >>{tmp_path}/called; exec sleep 600\n")
    monkeypatch.setattr(programs, "_DEADLINE_S", 0.5)
    assert [a["status"] for a in modprobe.load(Root(str(tmp_path)), "msr", "cpuid")] == [None, None]
    assert (tmp_path / "called").read_text() == "\n"


def test_who_could_load_nothing_keeps_no_other_waiting(fake: Modprobe, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    for name in ("modules", "vmallocinfo"):
        (tmp_path / "proc" / name).touch()
    fake("#!/bin/sh\nexit 1\n")
    with modprobe.Borrowed(Root(str(tmp_path)), lambda: ["msr"]), (tmp_path / "proc/vmallocinfo").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_kernel_without_modules_is_not_asked(tmp_path: Path, fake: Modprobe) -> None:
    fake(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with modprobe.Borrowed(Root(str(tmp_path)), lambda: ["msr"]) as borrowed:
        pass
    assert borrowed.attempts[0]["status"] is None
    assert "no loadable modules" in borrowed.attempts[0]["output"]
    assert not (tmp_path / "called").exists()


def test_a_guard_that_cannot_load_says_so(tmp_path: Path, fake: Modprobe) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake("#!/bin/sh\necho refused; exit 1\n")
    before = set(os.listdir("/proc/self/fd"))
    with modprobe.Borrowed(Root(str(tmp_path)), lambda: ["msr", "cpuid"]) as borrowed:
        assert [a["output"] for a in borrowed.attempts] == ["refused", "refused"]
    assert [a["unloaded"] for a in borrowed.attempts] == [None, None]
    assert set(os.listdir("/proc/self/fd")) == before
