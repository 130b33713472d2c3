"""What this process may do and has is never the host's failure, whichever call shows it.

The lists here are an oracle of their own: they are written from errno(3) and from the calls' manual pages, not from the
product's table.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.model.own_errors import OWN_ERRORS
from tests.helpers.recorded_evidence import recorded
from tests.helpers.run_kvmprobe import PROJECT
from tests.helpers.variants import AT_LOAD, BASE, api_version, create_fails, open_fails

OWN = {"EACCES", "EPERM", "ENOSYS", "EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN"}
KERNELS = ("EBUSY", "EIO", "ENODEV", "ENXIO", "ENOENT", "EINVAL", "ENOTTY", "EFAULT", "EOPNOTSUPP", "EEXIST")
GUEST_CALLS = (
    "KVM_GET_VCPU_MMAP_SIZE",
    "KVM_SET_TSS_ADDR",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_CREATE_VCPU",
    "mmap",
    "KVM_GET_SREGS",
    "KVM_SET_SREGS",
    "KVM_SET_REGS",
    "KVM_RUN",
)


def guest_fails(call: str | None, error: str) -> Callable[[Any], None]:
    def change(evidence: Any) -> None:
        for run in evidence["guest"]:
            run.update(result="failed", detail=call, error=error)

    return change


def fault(call: str | None, error: str) -> Callable[[Any], None]:
    """Evidence in which this call failed."""
    changes = {
        "open": open_fails(error),
        "KVM_GET_API_VERSION": api_version({"error": error}),
        "KVM_CREATE_VM": create_fails(error),
    }
    return changes.get(call or "", guest_fails(call, error))


def verdict(base: str, call: str | None, error: str) -> Any:
    evidence = recorded(base)
    fault(call, error)(evidence)
    return judge(evidence)["verdict"]


CALLS = ("open", "KVM_GET_API_VERSION", "KVM_CREATE_VM", *GUEST_CALLS)


def test_the_table_has_a_row_for_each_call() -> None:
    assert set(CALLS) <= set(OWN_ERRORS)
    assert all(name in errno.errorcode.values() for names in OWN_ERRORS.values() for name in names)


@pytest.mark.parametrize("base", [BASE, AT_LOAD])
@pytest.mark.parametrize("error", sorted(OWN))
@pytest.mark.parametrize("call", [*CALLS, None])
def test_an_own_error_is_never_a_failure_of_the_host(call: str | None, error: str, base: str) -> None:
    found = verdict(base, call, error)
    assert found["status"] != "failed", found
    assert "microcode" not in found["hint"]
    assert "as root" not in found["hint"] or error in ("EACCES", "EPERM")


@pytest.mark.parametrize("error", KERNELS)
@pytest.mark.parametrize("call", CALLS)
def test_the_kernels_answer_is_one(call: str, error: str) -> None:
    assert verdict(BASE, call, error)["status"] == "failed"


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_registers_that_a_limit_kept_from_being_read(error: str) -> None:
    evidence = recorded(BASE)
    evidence["guest"] = []
    for snapshot in evidence["snapshots"]:
        for registers in snapshot["cpus"].values():
            registers["EFER"] = {"error": error}
    found = judge(evidence)["verdict"]
    assert (found["reason"], found["cause"]) == ("msr-unreadable", "out-of-resource")
    assert "as root" not in found["hint"]


def test_a_limit_of_open_files_never_fails_the_host(host_report: Any) -> None:
    """The lowest limits with which Python itself starts, and some more: the verdict is that of the host, or unknown."""
    usual = host_report["verdict"]["status"]
    command = [sys.executable, "-m", "kvmprobe", "check", "--json", "--no-load"]
    seen = set()
    for limit in range(5, 16):
        done = subprocess.run(
            ["prlimit", f"--nofile={limit}", *command],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.stdout:
            seen.add(json.loads(done.stdout)["verdict"]["status"])
    assert usual in seen
    assert "failed" not in seen or usual == "failed"
