"""Programs of the system, by programs of the name modprobe: exit status, output, deadlines."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from kvmprobe.host import run_program
from tests.helpers.fake_modprobe import FakeModprobe


@pytest.mark.parametrize(
    ("content", "mode", "status", "output"),
    [
        ("#!/bin/sh\nexit 0\n", 0o755, 0, ""),
        ("#!/bin/sh\necho no such module >&2; exit 1\n", 0o755, 1, "no such module"),
        ("#!/bin/sh\nprintf '\\377'; exit 255\n", 0o755, 255, "\ufffd"),
        ("#!/bin/sh\nkill -9 $$\n", 0o755, -9, ""),
        ("#!/bin/sh\necho $PATH $LC_ALL $HOME; cat\n", 0o755, 0, ":/usr/bin:/bin C"),
        ("#!/nonexistent\n", 0o755, None, "cannot be run: No such file or directory"),
        ("not a program", 0o755, None, "cannot be run: Exec format error"),
        ("#!/bin/sh\n", 0o644, None, "cannot be run: Permission denied"),
    ],
)
def test_status_and_output_are_returned(
    content: str, mode: int, status: int | None, output: str, fake_modprobe: FakeModprobe
) -> None:
    fake_modprobe(content, mode)
    answer = run_program.run_program("modprobe", "msr")
    assert answer[0] == status
    assert answer[1].endswith(output)


def test_a_program_that_is_missing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_program, "PATH", str(tmp_path))
    assert run_program.run_program("modprobe", "msr") == (None, f"there is no modprobe in {tmp_path}")


def test_a_program_that_hangs_is_killed(
    tmp_path: Path, fake_modprobe: FakeModprobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_modprobe(f"#!/bin/sh\necho $$ >{tmp_path}/pid; exec sleep 600\n")
    monkeypatch.setattr(run_program, "DEADLINE_S", 1.0)
    assert run_program.run_program("modprobe", "msr") == (None, "modprobe did not end within 1 s")
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


# A modprobe that its parent cannot reap: another process traces it and does not take its end.
_UNREAPABLE = """#!{python}
import ctypes, os, time
ctypes.CDLL(None).prctl(0x59616D61, -1)  # PR_SET_PTRACER, where yama restricts tracing
ready, done = os.pipe()
tracer = os.fork()
if tracer == 0:
    for fd in (1, 2):
        os.close(fd)
    ctypes.CDLL(None).ptrace(0x4206, os.getppid(), 0, 0)  # PTRACE_SEIZE
    os.write(done, b"1")
    time.sleep(600)
open("{folder}/tracer", "w").write(str(tracer))
os.read(ready, 1)
time.sleep(600)
"""


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="root may trace any process")
def test_a_program_that_sigkill_does_not_end_is_not_waited_for(
    tmp_path: Path, fake_modprobe: FakeModprobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a modprobe in the kernel, where the init function of a module hangs."""
    fake_modprobe(_UNREAPABLE.format(python=sys.executable, folder=tmp_path))
    monkeypatch.setattr(run_program, "DEADLINE_S", 5.0)
    monkeypatch.setattr(run_program, "KILL_DEADLINE_S", 0.2)
    started = time.monotonic()
    try:
        status, output = run_program.run_program("modprobe", "msr")
        assert time.monotonic() - started < 60.0
    finally:
        os.kill(int((tmp_path / "tracer").read_text()), signal.SIGKILL)
        os.wait()
    assert (status, output) == (None, "modprobe did not end within 5 s, and SIGKILL did not end it")
