"""Bad days: a real probe of this host while strace makes its system calls fail, one kind and one errno at a time.

Whatever fails: no traceback, a promised exit status, a report or a clear line, and never "confirmed".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host import kvm
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

pytestmark = pytest.mark.usefixtures("kvm_device")

# The ioctls of a probe, in their order on /dev/kvm, the VM and the vCPU.
FIRST_EXTENSION = 2
CREATE_VM = FIRST_EXTENSION + len(kvm.EXTENSIONS)
IOCTLS = {
    1: ("KVM_GET_API_VERSION", ["ENOTTY", "EINVAL", "EINTR", "EPERM"]),
    FIRST_EXTENSION: ("KVM_CHECK_EXTENSION", ["ENOTTY", "EINVAL"]),
    CREATE_VM: ("KVM_CREATE_VM", ["EBUSY", "EIO", "ENOMEM", "EMFILE", "EPERM", "EOPNOTSUPP", "ENODEV", "EINVAL"]),
    CREATE_VM + 1: ("KVM_GET_VCPU_MMAP_SIZE or KVM_SET_TSS_ADDR", ["EINVAL", "EIO"]),
    CREATE_VM + 2: ("KVM_SET_USER_MEMORY_REGION", ["EINVAL", "ENOMEM", "EEXIST"]),
    CREATE_VM + 3: ("KVM_GET_VCPU_MMAP_SIZE", ["EINVAL"]),
    CREATE_VM + 4: ("KVM_CREATE_VCPU", ["EINVAL", "ENOMEM", "EMFILE"]),
    CREATE_VM + 5: ("KVM_GET_SREGS", ["EINVAL", "ENOMEM"]),
    CREATE_VM + 6: ("KVM_SET_SREGS", ["EINVAL"]),
    CREATE_VM + 7: ("KVM_SET_REGS", ["EINVAL"]),
    CREATE_VM + 8: ("KVM_RUN", ["EIO", "EFAULT", "ENOEXEC", "EINTR"]),
}
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    (
        f"{name} {error}",
        f"ioctl:error={error}:when={number}",
        ("/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"),
    )
    for number, (name, errors) in IOCTLS.items()
    for error in errors
]
CASES += [
    # Python itself makes an interrupted open again, so EINTR must end some time
    (f"open {path} {error}", f"openat:error={error}" + (":when=1..3" if error == "EINTR" else ""), (path,))
    for path, errors in {
        "/dev/kvm": ["ENOENT", "EACCES", "EPERM", "ENODEV", "ENXIO", "EBUSY", "EMFILE", "ENFILE", "EIO", "EINTR"],
        "/dev/cpu/0/cpuid": ["ENOENT", "EACCES", "EPERM", "ENXIO", "EIO"],
        "/dev/cpu/0/msr": ["EACCES", "EPERM", "ENXIO", "EIO"],
        "/dev/kmsg": ["EACCES", "EPERM", "ENOENT"],
        "/proc/cpuinfo": ["ENOENT", "EACCES", "EIO"],
        "/sys/devices/system/cpu/online": ["ENOENT", "EACCES", "EIO"],
        "/sys/module": ["ENOENT", "EACCES"],
    }.items()
    for error in errors
]
CASES += [
    ("read /dev/cpu/0/cpuid EIO", "pread64:error=EIO", ("/dev/cpu/0/cpuid",)),
    ("read /dev/cpu/0/cpuid short", "pread64:retval=5", ("/dev/cpu/0/cpuid",)),
    ("read /dev/kmsg EPERM", "read:error=EPERM", ("/dev/kmsg",)),
    ("read /dev/kmsg EPIPE", "read:error=EPIPE:when=1..3", ("/dev/kmsg",)),
    ("read /proc/cpuinfo EIO", "read:error=EIO", ("/proc/cpuinfo",)),
    ("read /proc/cpuinfo empty", "read:retval=0", ("/proc/cpuinfo",)),
    ("netlink socket EPERM", "socket:error=EPERM", ()),
    ("bind EPERM", "bind:error=EPERM", ()),
    ("affinity refused", "sched_setaffinity:error=EINVAL", ()),
    ("affinity not permitted", "sched_setaffinity:error=EPERM", ()),
]


@pytest.mark.parametrize(("inject", "paths"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_whatever_fails_ends_as_promised(inject: str, paths: tuple[str, ...], tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace (apt-get install strace)")
    only = [argument for path in paths for argument in ("-P", path)]
    command = [strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"inject={inject}", *only]
    done = subprocess.run(
        [*command, sys.executable, "-m", "kvmprobe", "--json"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=DEADLINE_S,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    report: Any = json.loads(done.stdout)
    assert done.returncode in (1, 3, 4)
    if not _svm_is_here(report):
        assert report["verdict"]["status"] != "confirmed"
    assert "INJECTED" in (tmp_path / "trace").read_text() or not all(map(os.path.exists, paths))


def _svm_is_here(report: Any) -> bool:
    return any("svm" in info["flags"] for info in report["evidence"]["cpus"]["cpuinfo"].values() if "flags" in info)
