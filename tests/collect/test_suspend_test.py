"""Why a host cannot be suspended in the kernel's test mode. tests/lab/test_suspend_guest.py suspends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.collect.soak.suspend_test import suspend_limit
from kvmprobe.host.sysroot import Sysroot
from tests.helpers.run_kvmprobe import kvmprobe

FILES = {
    "sys/power/pm_test": "[none] core processors platform devices freezer\n",
    "sys/power/mem_sleep": "s2idle [deep]\n",
    "sys/power/state": "freeze mem disk\n",
    "proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n",
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("sys/power/mem_sleep", "[s2idle] deep\n", None),
        ("sys/power/mem_sleep", None, None),  # kernels before 4.10
        ("proc/self/mounts", None, None),
        ("sys/power/pm_test", None, "has no test mode"),
        ("sys/power/pm_test", "[none] freezer\n", "has no test mode"),
        ("sys/power/state", "freeze disk\n", "cannot suspend to memory"),
        ("sys/power/mem_sleep", "[s2idle]\n", "suspends to idle only"),
        ("proc/self/mounts", "host /srv 9p rw 0 0\n", "/srv is a filesystem of type 9p"),
    ],
)
def test_what_keeps_a_host_from_suspending(tmp_path: Path, name: str, text: str | None, expected: str | None) -> None:
    for path, content in {**FILES, name: text}.items():
        if content is not None:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)
    limit = suspend_limit(Sysroot(str(tmp_path)))
    assert (limit is None) if expected is None else (limit is not None and expected in limit)


def test_a_host_that_cannot_is_refused_in_one_line() -> None:
    limit = suspend_limit(Sysroot())
    if limit is None or os.geteuid() != 0:
        pytest.skip("this host could be suspended, or the user may not")
    done = kvmprobe("soak", "--suspend", "--cycles", "1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"kvmprobe: --suspend: {limit}\n  Omit --suspend.\n"
