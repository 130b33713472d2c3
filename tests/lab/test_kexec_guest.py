"""Real kernels that start one another by kexec: what the next one finds in EFER.SVME, and whom the verdict names.

kexec does not reset the boot CPU. KVM switches SVM off before it (kvm_reboot() in virt/kvm/kvm_main.c); another owner
of SVM does not. A kernel gives the EFER of its boot CPU to the others (setup_real_mode() in arch/x86/realmode/init.c).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import cache, guest_program, payload, qemu
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot

pytestmark = pytest.mark.kernel

_DEADLINE_S = 1200.0  # generous: three kernels, two of which decompress themselves
_ON, _OFF = "0x1d01", "0xd01"

# Arguments: kernel, initramfs, command line, and "vm": with a VM that lives during kexec, or "msr": with SVME set on
# cpu0. The next command line has EFER of cpu0 and cpu1: with the VM, or before SVME is set.
_KEXEC = """
import ctypes, fcntl, os, sys
EFER, KVM_CREATE_VM, KEXEC_FILE_LOAD, REBOOT_KEXEC = 0xC0000080, 0xAE01, 320, 0x45584543
kernel, initramfs, line, how = sys.argv[1:]
if how == "vm":
    device = os.open("/dev/kvm", os.O_RDWR)
    vm = fcntl.ioctl(device, KVM_CREATE_VM, 0)
msrs = [os.open(f"/dev/cpu/{cpu}/msr", os.O_RDWR) for cpu in (0, 1)]
efer = [int.from_bytes(os.pread(msr, 8, EFER), "little") for msr in msrs]
if how == "msr":
    os.pwrite(msrs[0], (efer[0] | 1 << 12).to_bytes(8, "little"), EFER)
line = f"{line} {how}={efer[0]:#x},{efer[1]:#x}".encode()
files = [os.open(name, os.O_RDONLY) for name in (kernel, initramfs)]
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(KEXEC_FILE_LOAD, *files, ctypes.c_ulong(len(line) + 1), line, ctypes.c_ulong(0)) == 0:
    libc.reboot(REBOOT_KEXEC)
sys.exit(f"kexec: {os.strerror(ctypes.get_errno())}")
"""

_SCRIPT = """
line=$(cat /proc/cmdline)
modprobe msr; echo on >/sys/module/msr/parameters/allow_writes
case $line in
*msr=*) echo "$line"; {kvmprobe} --json --passive ;;
*vm=*) python3 -S -c '{kexec}' {files} "$line" msr ;;
*) modprobe kvm_amd; python3 -S -c '{kexec}' {files} "$line" vm ;;
esac
"""


def test_kvm_clears_svme_before_kexec_and_the_verdict_names_who_did_not(
    real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    """One guest: its first kernel has a VM, the second one sets SVME without KVM, the third one runs kvmprobe."""
    kernel = real_kernel("bookworm")
    python = guest_program.python(Path("/"))
    vmlinuz = kernel.image.with_name("vmlinuz")
    files = f"{vmlinuz} {tmp_path}/initramfs"
    script = _SCRIPT.format(kvmprobe=" ".join(python.command("-m", "kvmprobe")), kexec=_KEXEC, files=files)
    program = guest_program.archive(python, payload.LAB, cache.default(), print)
    added = program + payload.archive([], ["sh", "-c", script])
    plan = Boot(kernel, added, deadline=_DEADLINE_S, folders=(*python.folders, vmlinuz.parent, tmp_path))
    tmp_path.chmod(0o755)  # for the QEMU of root, which becomes nobody
    (tmp_path / "initramfs").write_bytes(plan.initramfs())
    result = qemu.boot(plan, tmp_path)
    if result.outcome != ANSWERED:  # QEMU itself may fail; our own bug would fail again
        result = qemu.boot(plan, tmp_path)
    assert result.outcome == ANSWERED, (result, result.console.read_text(errors="replace"))
    line, _, output = result.stdout.decode().partition("\n")
    assert re.findall(r"(?:vm|msr)=\S+", line) == [f"vm={_ON},{_ON}", f"msr={_OFF},{_OFF}"], result
    report = json.loads(output)
    (before,) = report["evidence"]["snapshots"]
    assert {cpu: registers["EFER"] for cpu, registers in before["cpus"].items()} == {"0": _ON, "1": _ON}
    verdict = report["verdict"]
    assert (verdict["reason"], verdict["cause"]) == ("svm-held-by-another-owner", "svm-left-on-before-kexec")
    assert "kernel.bootloader_type = 208: this kernel was started by kexec" in verdict["because"]
