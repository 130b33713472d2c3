"""Modules that stand in for the standard library's: a newer Python or pyudev may import more of them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("emptied", "code"),
    [
        ("OF_ARGPARSE = {'gettext': {}}", "from kvmprobe.cli.parser import argparse; print(argparse.ArgumentParser)"),
        (
            "OF_PYUDEV = {**stand_ins.FIND_LIBRARY, 'datetime': {}}",
            "from kvmprobe.host import sysroot, udev; print(udev.Udev(sysroot.Sysroot()).version)",
        ),
    ],
    ids=["argparse", "pyudev"],
)
def test_who_imports_more_gets_the_real_module(emptied: str, code: str) -> None:
    code = f"from kvmprobe.host import stand_ins; stand_ins.{emptied}; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("<class 'argparse.", "pyudev ")), done.stdout
