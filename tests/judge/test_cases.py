"""Evidence as people's machines gave it: what is true of each, and what its hint must and must not advise."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kvmprobe.judge import judge
from kvmprobe.model.reasons import REASONS
from tests.helpers.recorded_evidence import EVIDENCE

CASES = EVIDENCE / "cases"


class Case:
    """`name`: of the file; `verdicts`: the right ones, status and reason; `cause`; regular expressions that `hint` and
    `because` must match, and that nothing the verdict advises may match (`never`)."""

    def __init__(
        self,
        name: str,
        verdicts: tuple[str, ...],
        cause: str | None,
        hint: tuple[str, ...],
        never: tuple[str, ...] = (),
        because: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.verdicts = verdicts
        self.cause = cause
        self.hint = hint
        self.never = never
        self.because = because


TABLE = (
    Case(
        "ryzen-bios-off-locked",
        ("failed: firmware-disabled",),
        "svm-disabled-locked-key-possible",
        ("SVM Mode.* firmware's setup", "systemctl reboot --firmware-setup", "Only the setup can show"),
        ("locked with a key", "with a key"),
        ("VM_CR = 0x18", r"SVM disabled \(by BIOS\)"),
    ),
    Case(
        "lab-trixie-bios-off-ryzen",
        ("failed: firmware-disabled",),
        "svm-disabled-by-hypervisor",
        ("hypervisor outside",),
        ("locked", "key"),
        ("VM_CR = 0x10",),
    ),
    Case(
        "lock0-svmdis-key",
        ("failed: firmware-disabled",),
        "svm-disabled-not-locked",
        ("SVM Mode.* firmware's setup",),
        (r"\block", r"\bkey"),
        ("VM_CR = 0x10",),
    ),
    Case(
        "svmdis-in-vm",
        ("failed: firmware-disabled",),
        "svm-disabled-by-hypervisor",
        ("hypervisor outside", "nested virtualization"),
        ("SVM Mode", "Advanced", "firmware-setup"),
        ("KVMKVMKVM",),
    ),
    Case(
        "azure-cvm",
        ("failed: sev-guest",),
        "confidential-vm-behind-paravisor",
        ("confidential VM", "without confidential computing"),
        ("not an SEV guest",),
        ("Memory Encryption Features active: AMD SEV",),
    ),
    Case(
        "lab-bookworm-other-vendor",
        ("failed: kvm-amd-load-failed", "failed: kvm-amd-not-loaded"),
        "other-vendor-module",
        ("`modprobe -r kvm_pvm`.*`modprobe kvm_amd`",),
        ("install line",),
        ("already loaded vendor module 'kvm_pvm'",),
    ),
    Case(
        "lab-bookworm-install-true",
        ("failed: kvm-amd-not-loaded",),
        "install-line",
        ("Remove this install line.*`modprobe kvm_amd`", "/etc/modprobe.d"),
        ("--load-kvm",),
    ),
    Case(
        "lab-bookworm-arch-updated",
        ("failed: kvm-amd-load-failed", "inconclusive: msr-unreadable"),
        "modules-gone",
        ("`systemctl reboot`",),
        ("as root", "--no-load"),
        ("/lib/modules/6.1.0-50-amd64",),
    ),
    Case(
        "lab-bookworm-clearcpuid",
        ("failed: kvm-amd-load-failed",),
        "svm-cleared-by-clearcpuid",
        ("Remove clearcpuid=svm from the kernel's command line", "`grub-mkconfig -o /boot/grub/grub.cfg`", "reboot"),
        ("firmware",),
        ("Clearing CPUID bits: svm",),
    ),
    Case(
        "la57-5.15",
        ("failed: kvm-amd-load-failed",),
        "five-level-paging",
        ("no5lvl", "newer kernel"),
        (),
        ("KVM doesn't yet support 5-level paging on AMD SVM",),
    ),
    Case(
        "lab-bookworm-l0-refuses-svme",
        ("failed: svme-not-set",),
        "hypervisor-loses-svme",
        ("hypervisor outside",),
        ("kvm@vger", "defect of the kernel"),
        ("KVM wrote VM_HSAVE_PA",),
    ),
    Case(
        "vm-cr-refused-load-refused",
        ("failed: kvm-amd-load-failed",),
        "load-not-permitted",
        ("kernel.modules_disabled", "module_blacklist="),
        (),
        ("Operation not permitted", "VM_CR = EIO"),
    ),
    Case(
        "lab-bookworm-vbox-running",
        ("failed: svm-held-by-another-owner",),
        "virtualbox-vms-running",
        ("`VBoxManage list runningvms`", "end each"),
        ("[Uu]nload", "modprobe -r"),
        ("vboxdrv is loaded, refcount 1",),
    ),
    Case(
        "xen-dom0-6.1",
        ("failed: cpu-lacks-svm",),
        "xen-pv-domain",
        ("without Xen", "Xen's own tools"),
        ("another CPU model",),
        ("XenVMMXenVMM",),
    ),
    Case(
        "lab-bookworm-docker-dir-first",
        ("failed: kvm-device-missing",),
        "device-is-folder",
        ("`rmdir /dev/kvm`.*`modprobe -r kvm_amd`, `modprobe kvm_amd`",),
        ("devtmpfs",),
        ("/dev/kvm: folder",),
    ),
    Case(
        "api-EACCES",
        ("inconclusive: kvm-not-permitted",),
        "ioctl-refused",
        ("sandbox or security module",),
        ("not Linux's", "as root"),
        ("KVM_GET_API_VERSION: EACCES",),
    ),
    Case("guest-KVM_RUN-EPERM", ("confirmed: svme-set-by-create-vm",), None, ("Nothing to do",), ("microcode",)),
    Case("guest-KVM_CREATE_VCPU-EMFILE", ("confirmed: svme-set-by-create-vm",), None, ("Nothing to do",)),
    Case(
        "builtin-refused",
        ("failed: kvm-device-missing",),
        "svm-hidden-by-kernel",
        ("clearcpuid=", "reboot"),
        ("container", "docker", "modprobe"),
        ("SVM not supported by CPU 0",),
    ),
    Case(
        "held-builtin-intel",
        ("failed: svm-held-by-another-owner",),
        "svm-owner-not-found",
        ("reboot",),
        ("kvm_intel", "[Uu]nload"),
        ("neither vboxdrv",),
    ),
    Case("oracle-efer-unread-0", ("failed: register-corrupted",), None, ("Do not run VMs",)),
    Case("oracle-guest-failed-0", ("failed: guest-failed",), "hypervisor-runs-guest-wrongly", ("hypervisor outside",)),
    Case("oracle-no-guest-0", ("failed: register-corrupted",), None, ("Do not run VMs",), ("as root",)),
    Case("oracle-no-vm-0", ("failed: register-corrupted",), None, ("Do not run VMs",)),
    Case("oracle-svme-0-0", ("failed: svme-not-set",), "hypervisor-loses-svme", ("hypervisor outside",)),
    Case(
        "root-open-EACCES",
        ("inconclusive: kvm-not-permitted",),
        "open-refused-by-policy",
        ("nodev", "SELinux", "container"),
        ("as root", "sudo"),
    ),
    Case(
        "vbox-kvmapi-passive",
        ("inconclusive: vm-not-created",),
        "svm-held-through-kvm",
        ("Nothing to do for KVM",),
        ("would fail", "[Uu]nload"),
        ("kvm: refcount 3",),
    ),
)


def verdict_of(name: str) -> Any:
    return judge(json.loads((CASES / f"{name}.json").read_text()))["verdict"]


def test_every_case_is_in_the_table() -> None:
    assert sorted(path.stem for path in CASES.glob("*.json")) == sorted(case.name for case in TABLE)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_verdict_and_cause(case: Case) -> None:
    verdict = verdict_of(case.name)
    assert f"{verdict['status']}: {verdict['reason']}" in case.verdicts
    assert verdict["cause"] == case.cause


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_hint_names_what_helps_and_nothing_else(case: Case) -> None:
    verdict = verdict_of(case.name)
    for pattern in case.hint:
        assert re.search(pattern, verdict["hint"]), pattern
    for pattern in case.never:
        assert not re.search(pattern, f"{verdict['summary']} {verdict['hint']}"), pattern


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_because_quotes_the_evidence(case: Case) -> None:
    quoted = "\n".join(verdict_of(case.name)["because"])
    for pattern in case.because:
        assert re.search(pattern, quoted), pattern


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_checks_repeat_the_verdicts_hint_only(case: Case) -> None:
    """A check that gave the reason shows the hint of its cause, not the general one of the reason.

    A check that failed for another reason shows that reason's.
    """
    report = judge(json.loads((CASES / f"{case.name}.json").read_text()))
    for check in report["checks"]:
        if check["status"] == "fail" and check["hint"]:
            others = [reason.hint for name, reason in REASONS.items() if name != report["verdict"]["reason"]]
            assert check["hint"] in (report["verdict"]["hint"], *others)
