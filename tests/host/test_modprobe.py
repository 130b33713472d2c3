"""modprobe's answers, by programs of that name: whatever it does is kept as evidence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.host import modprobe, run_program
from kvmprobe.host.sysroot import Sysroot

Modprobe = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Modprobe:
    """Puts a modprobe where kvmprobe looks for it."""

    def put(content: str, mode: int = 0o755) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "modprobe").write_text(content)
        (folder / "modprobe").chmod(mode)
        monkeypatch.setattr(run_program, "_PATH", f"{folder}:/usr/bin:/bin")

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
    answer = run_program.run("modprobe", "msr")
    assert answer[0] == status
    assert answer[1].endswith(output)


def test_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_program, "_PATH", str(tmp_path))
    assert run_program.run("modprobe", "msr") == (None, f"there is no modprobe in {tmp_path}")


def test_it_hangs(fake: Modprobe, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(run_program, "_DEADLINE_S", 0.2)
    assert run_program.run("modprobe", "msr") == (None, "modprobe did not end within 0 s")


def test_it_hangs_in_the_kernel(fake: Modprobe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a module's init does: no signal ends it."""
    fake("#!/bin/sh\nexec sleep 600\n")
    killed: list[int] = []
    with monkeypatch.context() as deaf:
        deaf.setattr(run_program, "_DEADLINE_S", 0.2)
        deaf.setattr(run_program, "_KILL_S", 0.2)
        deaf.setattr(os, "kill", lambda pid, signum: killed.append(pid))
        assert run_program.run("modprobe", "msr") == (None, "modprobe did not end within 0 s, nor by SIGKILL")
    (pid,) = killed
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_when_one_of_two_fails_each_has_its_own_answer(fake: Modprobe, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake('#!/bin/sh\ncase "$*" in *msr*) echo "no msr"; exit 1;; esac\n')
    attempts = modprobe.load(Sysroot(str(tmp_path)), "msr", "cpuid")
    assert [(a["module"], a["status"], a["output"]) for a in attempts] == [("msr", 1, "no msr"), ("cpuid", 0, "")]


def test_one_that_hangs_is_not_tried_again(fake: Modprobe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake(f"#!/bin/sh\necho >>{tmp_path}/called; exec sleep 600\n")
    monkeypatch.setattr(run_program, "_DEADLINE_S", 0.5)
    assert [a["status"] for a in modprobe.load(Sysroot(str(tmp_path)), "msr", "cpuid")] == [None, None]
    assert (tmp_path / "called").read_text() == "\n"


DEVICES = {"msr": "/dev/cpu/0/msr", "cpuid": "/dev/cpu/0/cpuid"}


def test_what_is_there_is_held_and_not_loaded(tmp_path: Path, fake: Modprobe) -> None:
    (tmp_path / "dev/cpu/0").mkdir(parents=True)
    for device in DEVICES.values():
        (tmp_path / device[1:]).touch()
    fake(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with modprobe.TemporarilyLoaded(Sysroot(str(tmp_path)), DEVICES) as borrowed:
        held = {os.readlink(f"/proc/self/fd/{fd}") for fd in borrowed._open}
    assert held == {f"{tmp_path}{device}" for device in DEVICES.values()}
    assert (borrowed.attempts, borrowed._open) == ([], [])
    assert not (tmp_path / "called").exists()


def test_what_is_being_unloaded_is_loaded_once_more(tmp_path: Path, fake: Modprobe) -> None:
    """modprobe finds it there, and a moment later it is gone."""
    for name in ("proc", "dev/cpu/0", "sys/module/msr"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/modules").touch()
    fake(
        f"""#!/bin/sh
        cd {tmp_path}
        if [ $1 = -r ]; then rm sys/module/msr/initstate; exit; fi
        echo >>called
        [ "$(wc -l <called)" = 1 ] || {{ touch dev/cpu/0/msr sys/module/msr/initstate; echo 0 >sys/module/msr/refcnt; }}
        """
    )
    with modprobe.TemporarilyLoaded(Sysroot(str(tmp_path)), {"msr": DEVICES["msr"]}) as borrowed:
        assert (tmp_path / "sys/module/msr/initstate").exists()
    assert borrowed.attempts == [{"module": "msr", "status": 0, "output": "", "unloaded": True}]
    assert (tmp_path / "called").read_text() == "\n\n"
    assert not (tmp_path / "sys/module/msr/initstate").exists()


def test_a_kernel_without_modules_is_not_asked(tmp_path: Path, fake: Modprobe) -> None:
    fake(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with modprobe.TemporarilyLoaded(Sysroot(str(tmp_path)), {"msr": DEVICES["msr"]}) as borrowed:
        pass
    assert borrowed.attempts[0]["status"] is None
    assert "no loadable modules" in borrowed.attempts[0]["output"]
    assert not (tmp_path / "called").exists()


def test_a_guard_that_cannot_load_says_so(tmp_path: Path, fake: Modprobe) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    fake("#!/bin/sh\necho refused; exit 1\n")
    before = set(os.listdir("/proc/self/fd"))
    with modprobe.TemporarilyLoaded(Sysroot(str(tmp_path)), DEVICES) as borrowed:
        assert [a["output"] for a in borrowed.attempts] == ["refused", "refused"]
    assert [a["unloaded"] for a in borrowed.attempts] == [None, None]
    assert set(os.listdir("/proc/self/fd")) == before
