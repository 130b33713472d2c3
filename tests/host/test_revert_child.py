"""A change that a child reverts, whether kvmprobe releases it, is ended by a signal, or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe.host.revert_child import RevertChild
from tests.helpers.own_processes import OwnProcesses
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT
from tests.helpers.waiting import wait_until


def test_both_results_are_returned() -> None:
    child = RevertChild(lambda: {"pid": os.getpid()}, lambda changed: [changed, os.getpid()])
    pid = child.changed["pid"]
    assert pid != os.getpid()
    assert child.revert() == [{"pid": pid}, pid]
    assert child.revert() is None
    assert not os.path.exists(f"/proc/{pid}")


def test_where_the_child_fails_this_process_reverts() -> None:
    def fail() -> None:
        os._exit(1)

    child = RevertChild(fail, lambda _: 1)
    assert (child.changed, child.revert()) == (None, 1)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_the_change_is_reverted_however_the_parent_ends(
    signum: signal.Signals, own_processes: OwnProcesses, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    code = f"""
import os, time
from kvmprobe.host.revert_child import RevertChild
child = RevertChild(lambda: os.mkdir({str(changed)!r}), lambda _: os.rmdir({str(changed)!r}))
print(os.path.isdir({str(changed)!r}), flush=True)
time.sleep(600)
"""
    parent = own_processes.start([sys.executable, "-c", code], cwd=PROJECT)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "True\n"
    parent.send_signal(signum)
    parent.wait()
    assert wait_until(lambda: not changed.exists())


def test_a_later_child_that_nobody_releases_does_not_keep_the_change(tmp_path: Path) -> None:
    """A signal may end kvmprobe's own start of a child just after its fork, before anything could release it."""
    changed = tmp_path / "changed"
    code = f"""
import os
from kvmprobe.host.background_child import BackgroundChild
from kvmprobe.host.revert_child import RevertChild
first = RevertChild(lambda: os.mkdir({str(changed)!r}), lambda _: os.rmdir({str(changed)!r}))
second = BackgroundChild(lambda released: os.read(released, 1))
first.revert()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0
    assert not changed.exists()
