"""Runs in a guest: loads kvm with each mutant, runs kvmprobe, and writes a line of JSON for each command.

Arguments: a file with the tasks, [{"id", "mutant", "before", "command"}], and the parts of the command line that runs
kvmprobe. A task's lines are {"id", "event": "start"} and {"id", "event": "end", "status", "report", "stderr"}. It ends
at {"id", "event": "stuck"} where the modules cannot be unloaded or loaded: then the machine boots again for this task.
Standard library only.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import subprocess
import sys
import time
import zlib
from typing import Any

_EFER, _VM_HSAVE_PA, _SVME = 0xC0000080, 0xC0010117, 1 << 12
_CONFIGURATION = "/etc/modprobe.d/mutant.conf"
_DEADLINE_S = 150
_UNLOAD_S = 15.0


def main() -> int:
    """Runs the tasks in their order. Returns 0."""
    with open(sys.argv[1], encoding="ascii") as file:
        tasks = json.load(file)
    kvmprobe = sys.argv[2:]
    with open("/sys/module/msr/parameters/allow_writes", "w", encoding="ascii") as file:
        file.write("on")
    good = {cpu: _read_msr(cpu, _EFER) & ~_SVME for cpu in _cpus()}
    for task in tasks:
        if not _unload():
            _write({"id": task["id"], "event": "stuck", "users": _users()})
            return 0
        _clean(good)
        _write({"id": task["id"], "event": "start"})
        if not _load(task["mutant"]) and task is not tasks[0]:  # what an earlier mutant left in the kernel may be why
            _write({"id": task["id"], "event": "stuck", "users": _users()})
            return 0
        _write({"id": task["id"], "event": "end", **_run(task, kvmprobe)})
    return 0


def _load(mutant: int) -> bool:
    """Loads kvm_amd, and configures the mutant for those who load it again; False where the kernel refuses it."""
    with open(_CONFIGURATION, "w", encoding="ascii") as file:
        file.write(f"options kvm mutant={mutant}\n")
    return subprocess.run(["modprobe", "kvm_amd"], check=False).returncode == 0


def _run(task: dict[str, Any], kvmprobe: list[str]) -> dict[str, Any]:
    if task["before"] == "svme-on-cpu1":
        _write_msr(1, _EFER, _read_msr(1, _EFER) | _SVME)
    command = [*kvmprobe, *task["command"], "--json", "-o", "/tmp/report.json"]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE_S, check=False)
        status, stderr = ended.returncode, ended.stderr.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        status, stderr = None, "it did not end"
    report = b""
    if os.path.exists("/tmp/report.json"):
        with open("/tmp/report.json", "rb") as file:
            report = file.read()
        os.unlink("/tmp/report.json")
    packed = base64.b64encode(zlib.compress(report)).decode()
    return {"status": status, "report": packed, "stderr": stderr[-2000:]}


def _unload() -> bool:
    """Unloads kvm_amd and kvm; False where something still uses them."""
    ends = time.monotonic() + _UNLOAD_S
    while os.path.exists("/sys/module/kvm"):
        subprocess.run(["rmmod", "kvm_amd", "kvm"], stderr=subprocess.DEVNULL, check=False)
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def _users() -> str:
    with open("/proc/modules", encoding="ascii") as file:
        return "".join(line for line in file if line.startswith("kvm"))


def _clean(good: dict[int, int]) -> None:
    """Takes all CPUs online, and puts EFER and VM_HSAVE_PA right where a mutant left something."""
    for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/online"):
        with open(path, "r+", encoding="ascii") as file:
            if file.read().strip() == "0":
                file.write("1")
    for cpu, efer in good.items():
        if _read_msr(cpu, _EFER) != efer:
            _write_msr(cpu, _EFER, efer)
        if _read_msr(cpu, _VM_HSAVE_PA):
            _write_msr(cpu, _VM_HSAVE_PA, 0)
    subprocess.run(["dmesg", "-C"], check=False)  # lines of another mutant are not evidence of this one


def _cpus() -> list[int]:
    return [int(name) for name in os.listdir("/dev/cpu") if name.isdigit()]


def _read_msr(cpu: int, number: int) -> int:
    with open(f"/dev/cpu/{cpu}/msr", "rb", buffering=0) as file:
        return int.from_bytes(os.pread(file.fileno(), 8, number), "little")


def _write_msr(cpu: int, number: int, value: int) -> None:
    with open(f"/dev/cpu/{cpu}/msr", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), value.to_bytes(8, "little"), number)


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
