"""A real probe of this host while strace makes one kind of system call fail with one errno.

The report must show the error in the field of that call. There is no traceback, and the exit status is a promised one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvmprobe.host import kvm
from tests.helpers.run_kvmprobe import kvmprobe

pytestmark = pytest.mark.usefixtures("kvm_device")

Field = Callable[[Any], Any]


class Case(NamedTuple):
    """`inject`: strace's expression. `paths`: only calls on these files fail. `field` of the evidence is `expected`."""

    id: str
    inject: str
    paths: tuple[str, ...]
    field: Field
    expected: object


# The ioctls of a probe on /dev/kvm, the VM and the vCPU, counted from 1.
GET_API_VERSION = 1
CHECK_EXTENSION = 2
GET_SUPPORTED_CPUID = CHECK_EXTENSION + len(kvm.EXTENSIONS)
CREATE_VM = GET_SUPPORTED_CPUID + 1
GUEST_SET_UP = (
    ("KVM_SET_TSS_ADDR", ("EINVAL", "EIO")),
    ("KVM_SET_USER_MEMORY_REGION", ("EINVAL", "ENOMEM", "EEXIST")),
    ("KVM_GET_VCPU_MMAP_SIZE", ("EINVAL",)),
    ("KVM_CREATE_VCPU", ("EINVAL", "ENOMEM", "EMFILE")),
)
GUEST_RUN = (
    ("KVM_GET_SREGS", ("EINVAL", "ENOMEM")),
    ("KVM_SET_SREGS", ("EINVAL",)),
    ("KVM_SET_REGS", ("EINVAL",)),
    ("KVM_RUN", ("EIO", "EFAULT", "ENOEXEC")),
)
KVM_RUN = CREATE_VM + len(GUEST_SET_UP) + len(GUEST_RUN)


def ioctl_case(when: object, name: str, error: str, field: Field, expected: object) -> Case:
    """The ioctl fails that is number `when` (or one of "FIRST..LAST")."""
    files = ("/dev/kvm", kvm.VM_INODE, f"{kvm.VCPU_INODE}:0")
    return Case(f"{name} {error} {when}", f"ioctl:error={error}:when={when}", files, field, expected)


def open_case(path: str, error: str, field: Field, expected: object) -> Case:
    """Every open of a file fails."""
    return Case(f"open {path} {error}", f"openat:error={error}", (path,), field, expected)


def answer(name: str) -> Field:
    """The answer of an ioctl on /dev/kvm."""
    return lambda evidence: evidence["ioctls"][name]


def first_extension(evidence: Any) -> Any:
    """The answer of the first KVM_CHECK_EXTENSION."""
    return evidence["ioctls"]["KVM_CHECK_EXTENSION"][next(iter(kvm.EXTENSIONS))]


def guest_runs(evidence: Any) -> set[tuple[Any, ...]]:
    """Result, detail and error of the guest on all CPUs."""
    return {(run["result"], run["detail"], run["error"]) for run in evidence["guest"]}


def first_guest_run(evidence: Any) -> tuple[Any, ...]:
    """Result, detail and error of the guest on the first CPU."""
    run = evidence["guest"][0]
    return run["result"], run["detail"], run["error"]


def guest_results(evidence: Any) -> set[Any]:
    """The results of the guest on all CPUs."""
    return {run["result"] for run in evidence["guest"]}


def cpuid_of_cpu0(evidence: Any) -> list[Any]:
    """The different leaves of the first CPU."""
    leaves = evidence["cpus"]["cpuid"]["0"].values()
    return [leaf for number, leaf in enumerate(leaves) if leaf not in list(leaves)[:number]]


def efer_of_cpu0(evidence: Any) -> Any:
    """The first reading of EFER of the first CPU."""
    return evidence["snapshots"][0]["cpus"]["0"]["EFER"]


ANSWERS = (
    (GET_API_VERSION, "KVM_GET_API_VERSION", ("ENOTTY", "EINVAL", "EPERM"), answer("KVM_GET_API_VERSION")),
    (CHECK_EXTENSION, "KVM_CHECK_EXTENSION", ("ENOTTY", "EINVAL"), first_extension),
    (GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID", ("ENOTTY", "E2BIG", "ENOMEM"), answer("KVM_GET_SUPPORTED_CPUID")),
    (
        *(CREATE_VM, "KVM_CREATE_VM"),
        ("EBUSY", "EIO", "ENOMEM", "EMFILE", "EPERM", "EOPNOTSUPP", "ENODEV", "EINVAL"),
        answer("KVM_CREATE_VM"),
    ),
)
CASES = [
    ioctl_case(when, name, error, field, {"error": error}) for when, name, errors, field in ANSWERS for error in errors
]
# After another API version than 12, no VM is created.
CASES += [ioctl_case(GET_API_VERSION, "then KVM_CREATE_VM", "ENOTTY", answer("KVM_CREATE_VM"), None)]
# Interrupted ioctls are retried: by kvm.ioctl() a number of times, KVM_RUN by the guest until its deadline.
CASES += [
    ioctl_case(GET_API_VERSION, "KVM_GET_API_VERSION", "EINTR", answer("KVM_GET_API_VERSION"), 12),
    ioctl_case(CREATE_VM, "KVM_CREATE_VM", "EINTR", answer("KVM_CREATE_VM"), 0),
    ioctl_case(f"1..{kvm.EINTR_TRIES - 1}", "KVM_GET_API_VERSION", "EINTR", answer("KVM_GET_API_VERSION"), 12),
    ioctl_case(
        f"1..{kvm.EINTR_TRIES}", "KVM_GET_API_VERSION", "EINTR", answer("KVM_GET_API_VERSION"), {"error": "EINTR"}
    ),
    ioctl_case(KVM_RUN, "KVM_RUN", "EINTR", guest_results, {"ok"}),
]
# The guest's registers are read after its two exits.
CASES += [
    ioctl_case(KVM_RUN + 2, "KVM_GET_REGS", "EINVAL", first_guest_run, ("failed", "KVM_GET_REGS", "EINVAL")),
]
# Without its memory or its vCPU the guest runs on no CPU.
CASES += [
    ioctl_case(CREATE_VM + number, name, error, guest_runs, {("failed", name, error)})
    for number, (name, errors) in enumerate(GUEST_SET_UP, 1)
    for error in errors
]
# Each CPU has these ioctls of its own: the guest fails on the first one.
CASES += [
    ioctl_case(CREATE_VM + number, name, error, first_guest_run, ("failed", name, error))
    for number, (name, errors) in enumerate(GUEST_RUN, 1 + len(GUEST_SET_UP))
    for error in errors
]
CASES += [
    open_case("/dev/kvm", error, lambda evidence: evidence["device"]["opened"], {"error": error})
    for error in ("ENOENT", "EACCES", "EPERM", "ENODEV", "ENXIO", "EBUSY", "EMFILE", "ENFILE", "EIO")
]
CASES += [
    open_case("/dev/cpu/0/cpuid", error, cpuid_of_cpu0, [{"error": error}])
    for error in ("ENOENT", "EACCES", "EPERM", "ENXIO", "EIO")
]
CASES += [
    open_case("/dev/cpu/0/msr", error, efer_of_cpu0, {"error": error}) for error in ("EACCES", "EPERM", "ENXIO", "EIO")
]
CASES += [
    open_case("/dev/kmsg", error, lambda evidence: evidence["log"], {"error": error, "lines": []})
    for error in ("EACCES", "EPERM", "ENOENT")
]
CASES += [
    open_case("/proc/cpuinfo", error, lambda evidence: evidence["cpus"]["cpuinfo"], {"error": error})
    for error in ("ENOENT", "EACCES", "EIO")
]
CASES += [
    # /proc/cpuinfo lists the online CPUs, too.
    open_case(
        *("/sys/devices/system/cpu/online", error),
        lambda evidence: set(evidence["cpus"]["cpuid"]) == set(evidence["cpus"]["cpuinfo"]),
        True,
    )
    for error in ("ENOENT", "EACCES", "EIO")
]
CASES += [open_case("/sys/module", error, lambda evidence: evidence["modules"], None) for error in ("ENOENT", "EACCES")]
CASES += [
    # Python retries an interrupted open.
    Case(
        *("open /dev/kvm EINTR", "openat:error=EINTR:when=1..3", ("/dev/kvm",)),
        lambda evidence: evidence["device"]["opened"],
        True,
    ),
    Case("read cpuid EIO", "pread64:error=EIO", ("/dev/cpu/0/cpuid",), cpuid_of_cpu0, [{"error": "EIO"}]),
    Case(
        *("read cpuid short", "pread64:retval=5", ("/dev/cpu/0/cpuid",), cpuid_of_cpu0),
        [{"error": "short read: 5 of 16 bytes"}],
    ),
    Case("read kmsg EPERM", "read:error=EPERM", ("/dev/kmsg",), lambda evidence: evidence["log"]["error"], "EPERM"),
    # The kernel has overwritten records: the next read returns a later one.
    Case("read kmsg EPIPE", "read:error=EPIPE:when=1..3", ("/dev/kmsg",), lambda e: e["log"]["error"], None),
    Case(
        *("read cpuinfo EIO", "read:error=EIO", ("/proc/cpuinfo",)),
        lambda evidence: evidence["cpus"]["cpuinfo"],
        {"error": "EIO"},
    ),
    Case("read cpuinfo empty", "read:retval=0", ("/proc/cpuinfo",), lambda e: e["cpus"]["cpuinfo"], {}),
    Case("socket EPERM", "socket:error=EPERM", (), lambda evidence: evidence["uevents"]["source"], None),
    Case("bind EPERM", "bind:error=EPERM", (), lambda evidence: evidence["uevents"]["source"], None),
    *(
        Case(
            *(f"affinity {error}", f"sched_setaffinity:error={error}", (), guest_runs),
            {("skipped", "sched_setaffinity", error)},
        )
        for error in ("EINVAL", "EPERM")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_report_shows_the_error_of_the_call_that_fails(case: Case, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace (apt-get install strace)")
    if not all(map(os.path.exists, case.paths[:1])) and "msr" not in case.id:
        pytest.skip(f"no {case.paths[0]} here")
    only = [argument for path in case.paths for argument in ("-P", path)]
    command = [strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"inject={case.inject}", *only]
    done = kvmprobe("check", "--json", before=command)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    report: Any = json.loads(done.stdout)
    assert "INJECTED" in (tmp_path / "trace").read_text()
    assert case.field(report["evidence"]) == case.expected
    assert done.returncode == {"failed": 1, "inconclusive": 3, "not applicable": 4}[report["verdict"]["status"]]
