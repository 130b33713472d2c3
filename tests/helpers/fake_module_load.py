"""Loads and unloads the module msr of a folder that stands for "/", as a probe does, by a program of the name modprobe.

`python3 -m tests.helpers.fake_module_load FOLDER` prints what a report has of it, as JSON. Exit status 70 where the
module stays loaded and the report does not state it. So the sweep of faults reaches every call of the child that loads
and unloads modules, on hosts that have none.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from kvmprobe.host import run_program
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.temporary_modules import TemporaryModules

_MODPROBE = """#!/bin/sh
sleep 0.05
cd {folder}
if [ $1 = -r ]; then rm -r sys/module/msr dev/cpu/0/msr; exit 0; fi
mkdir -p sys/module/msr; touch dev/cpu/0/msr; echo 0 >sys/module/msr/refcnt; touch sys/module/msr/initstate
echo loaded
"""


def main() -> None:
    """Load and unload once, in a new folder below FOLDER."""
    folder = Path(sys.argv[1], str(time.monotonic_ns()))
    for name in ("bin", "proc", "dev/cpu/0", "sys/module"):
        (folder / name).mkdir(parents=True)
    (folder / "proc/modules").touch()
    program = folder / "bin/modprobe"
    program.write_text(_MODPROBE.format(folder=folder))
    program.chmod(0o755)
    run_program.PATH = f"{folder}/bin:/usr/bin:/bin"
    with TemporaryModules(Sysroot(str(folder)), {"msr": "/dev/cpu/0/msr"}) as temporary:
        pass
    time.sleep(0.15)  # A modprobe that nobody waited for ends.
    if (folder / "sys/module/msr/initstate").exists() and not any(a["unloaded"] is False for a in temporary.attempts):
        sys.exit(70)
    print(json.dumps({"verdict": {"status": "inconclusive"}, "evidence": {"loads": temporary.attempts}}))


if __name__ == "__main__":
    main()
