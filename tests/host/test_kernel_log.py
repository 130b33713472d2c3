"""The kernel's log: which lines are kept, of this machine's /dev/kmsg and of stored copies."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from kvmprobe.host.kernel_log import LinesDuring, read_log
from kvmprobe.host.sysroot import Sysroot

ABOUT_SVM = (
    "kvm: disabled by bios",
    "kvm: support for 'kvm_amd' disabled by bios",
    "kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 3",
    "SVM disabled (by BIOS) in MSR_VM_CR",
    "kvm: already loaded vendor module 'kvm_pvm'",
    "kvm [4711]: vcpu0, guest rIP: 0xffffffff8106 Unhandled WRMSR(0xc0010115) = 0x0",
    "kvm_pvm: loading out-of-tree module taints kernel.",
    "kvm-pvm: loaded (native=1)",
    "has_svm: svm not available",
    "SVM: KVM doesn't yet support 5-level paging on AMD SVM",
    "SEV supported: 509 ASIDs",
    "SEV-ES enabled (ASIDs 1 - 99)",
    "SEV: SNP running at VMPL0.",
    "SEV-SNP: RMP table physical range [0x0000000000100000 - 0x00000000107fffff]",
    "ccp 0000:04:00.1: SEV API:1.55 build:21",
    "Clearing CPUID bits: svm",
    "unchecked MSR access error: WRMSR to 0xc0000080 (tried to write 0x0000000000001d01) at rIP: 0xffffffffc0a1",
    "unchecked MSR access error: RDMSR from 0xc0010114 at rIP: 0xffffffff9a2f (native_read_msr+0x7/0x40)",
    "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
    "Kernel is locked down from EFI Secure Boot; see man kernel_lockdown.7",
    "Loading of unsigned module is rejected",
    "kvm_amd: disagrees about version of symbol kvm_init",
    "ccp: Unknown symbol psp_send_command (err -2)",
    "Module kvm_amd is blacklisted",
    "Hypervisor detected: Microsoft Hyper-V",
    "Memory Encryption Features active: AMD SEV",
    "AMD Secure Encrypted Virtualization (SEV) active",
    "Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2",
    "AMD-Vi: IOMMU SNP support enabled.",
    "vboxdrv: Found 16 processor cores",
    "vmmon: loading out-of-tree module taints kernel.",
    "RT requires X86_FEATURE_CONSTANT_TSC",
    'audit: type=1400 audit(1.0:2): apparmor="DENIED" operation="open" name="/dev/kvm" requested_mask="wr"',
    'audit: type=1400 audit(1.0:3): avc:  denied  { read write } for  pid=4 name="kvm" dev="devtmpfs" ino=120',
    "failed to validate module [kvm_amd] BTF: -22",
    "SEV: Status: SEV SEV-ES SEV-SNP",
    "nouveau: module verification failed: signature not signed with a trusted key - tainting kernel",
    "irqbypass: loading out-of-tree module taints kernel.",
    "snp: firmware is not in a legacy state",
)
NOT_ABOUT_SVM = (
    "kvmbr0: port 1(eth0) entered forwarding state",
    "kvm_br0: port 2(tap0) entered blocking state",
    "br0: port 3(kvm-tap) entered disabled state",
    "usb 1-2: Product: USB KVM",
    "hid-generic 0003:0557:2419: input: USB HID v1.00 Keyboard [ATEN KVM] on usb-0000:00:14.0-2/input0",
    "DMAR: dmar0: SVM disabled, incompatible 1GB page capability",
    "amdgpu 0000:03:00.0: amdgpu: SVM range list initialised",
    "nouveau 0000:01:00.0: SVM: disabled",
    "kvm-clock: Using msrs 4b564d01 and 4b564d00",
    "clocksource: Switched to clocksource kvm-clock",
    "kvm-guest: PV spinlocks disabled, single CPU",
    "Booting paravirtualized kernel on KVM",
    "unchecked MSR access error: RDMSR from 0x852 at rIP: 0xffffffff9a2f",
    "nvidia: disagrees about version of symbol drm_open",
    "Module nouveau is blacklisted",
    "failed to validate module [nouveau] BTF: -22",
    'audit: type=1400 audit(1.0:4): avc:  denied  { read } for  pid=4 name="kvm.log" dev="sda1" ino=7',
    "systemd[1]: Starting kvm.service",
)


def stored(folder: Path, text: str | bytes, name: str = "dev/kmsg") -> Sysroot:
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Sysroot(str(folder))


def as_kmsg(*texts: str) -> str:
    return "".join(f"6,{100 + number},{number * 1000},-;{text}\n" for number, text in enumerate(texts))


def texts_of(root: Sysroot) -> list[str]:
    found = read_log(root)
    assert found["error"] is None
    return [line["text"] for line in found["lines"]]


@pytest.mark.parametrize("text", ABOUT_SVM)
def test_a_line_about_svm_is_kept(text: str, tmp_path: Path) -> None:
    assert texts_of(stored(tmp_path, as_kmsg(text))) == [text]


@pytest.mark.parametrize("text", NOT_ABOUT_SVM)
def test_a_line_about_something_else_is_not_kept(text: str, tmp_path: Path) -> None:
    assert texts_of(stored(tmp_path, as_kmsg(text))) == []


def test_of_too_many_lines_the_first_and_the_last_are_kept(tmp_path: Path) -> None:
    found = texts_of(stored(tmp_path, as_kmsg(*(f"kvm: line {number}" for number in range(5000)))))
    assert found[:40] == [f"kvm: line {number}" for number in range(40)]
    assert found[40:] == [f"kvm: line {number}" for number in range(4940, 5000)]


def test_lines_of_an_attempt_are_kept_whoever_printed_them(tmp_path: Path) -> None:
    """Between the first and the last of too many lines, and in the log's order."""
    root = stored(tmp_path, as_kmsg(*(f"kvm: line {number}" for number in range(5000))))
    during = LinesDuring(None)
    with during:
        during.lines[2500] = {"seconds": 2.5, "text": "BPF: some module is refused"}
    found = [line["text"] for line in read_log(root, during)["lines"]]
    assert found[39:42] == ["kvm: line 39", "BPF: some module is refused", "kvm: line 4940"]


def test_user_space_writes_no_line_of_the_kernel(tmp_path: Path) -> None:
    assert texts_of(stored(tmp_path, "30,1,1000,-;kvm: forged\n6,2,2000,-;kvm: own\n SUBSYSTEM=misc\n")) == ["kvm: own"]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("6,339,5140900,-;kvm: x", 5.1409),
        ("[    5.140900] kvm: x", 5.1409),
        ("[    5.140900][    T1] kvm: x", 5.1409),
        ("<6>[    5.140900] kvm: x", 5.1409),
        ("[Tue Nov 25 18:22:01 2025] kvm: x", 0.0),
        ("Nov 25 18:22:01 myhost kernel: kvm: x", 0.0),
        ("kvm: x", 0.0),
    ],
)
def test_stored_copies_in_every_form(line: str, seconds: float, tmp_path: Path) -> None:
    root = stored(tmp_path, line + "\n", "var/log/dmesg")
    assert read_log(root) == {"error": None, "lines": [{"seconds": seconds, "text": "kvm: x"}]}


@pytest.mark.parametrize("content", [b"", b"\0" * 100_000, b"\xff\xfe\n", b"6,1;kvm", b"kvm" * 100_000])
def test_damaged_copies(content: bytes, tmp_path: Path) -> None:
    assert read_log(stored(tmp_path, content))["error"] is None


def test_a_pipe_or_folder_in_place_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/kmsg")
    log = read_log(Sysroot(str(tmp_path)))
    assert (log["error"], log["lines"]) == ("EINVAL", [])
    (tmp_path / "dev/kmsg").unlink()
    (tmp_path / "dev/kmsg").mkdir()
    assert read_log(Sysroot(str(tmp_path)))["error"] in ("EINVAL", "EISDIR")


def test_no_log_at_all(tmp_path: Path) -> None:
    log = read_log(Sysroot(str(tmp_path)))
    assert (log["error"], log["lines"]) == ("ENOENT", [])


def test_a_log_that_never_ends(tmp_path: Path) -> None:
    """As /dev/zero, a device that always has something to read."""
    (tmp_path / "dev").mkdir()
    try:
        os.mknod(tmp_path / "dev/kmsg", stat.S_IFCHR | 0o600, os.stat("/dev/zero").st_rdev)
        os.close(os.open(tmp_path / "dev/kmsg", os.O_RDONLY))
    except PermissionError:
        pytest.skip("no device can be made here")
    started = time.monotonic()
    assert read_log(Sysroot(str(tmp_path))) == {"error": None, "lines": []}
    assert time.monotonic() - started < 30


def test_this_machines_log_is_read() -> None:
    """What it has depends on the machine; an error has a name of the kernel's."""
    found = read_log(Sysroot())
    assert found["error"] is None or found["error"].startswith("E")
    with LinesDuring(Sysroot()) as during:
        pass
    assert len(during.lines) <= 40
