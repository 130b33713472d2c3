"""What a guest needs for the cases: a userspace, modules of others, and stand-ins for programs that it lacks."""

from __future__ import annotations

from pathlib import Path

from kvmprobe.lab import cache, guest_program, payload, userspace
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.userspace import Userspace
from scripts.cause_guests import stub_modules

_PACKAGES = ("systemd", "systemd-sysv", "udev")
_HERE = Path(__file__).parent

# Lines of sh before the first case: kvm_amd is not loaded then; msr and cpuid are.
PREPARE = (
    *("cp -r /kvmprobe-lab/files/. /", "mkdir /saved", "cp -r /lib/modules/*/kernel /saved", "depmod -a"),
    *("modprobe -a msr cpuid", "echo on >/sys/module/msr/parameters/allow_writes"),
    *("useradd tester", "mknod -m 600 /run/other-hypervisor c 240 0"),
)
_KVMPROBE = """\
#!/bin/sh
cd /kvmprobe-lab && exec {command} "$@"
"""
# Debian's minimal userspace has no sudo. Root runs the commands of a hint, so sudo has nothing to do.
_SUDO = '#!/bin/sh\nexec "$@"\n'
# The guest has no network. This puts the files of the packages back that the hints name.
_APT_GET = """\
#!/bin/sh
case "$*" in
"install kmod")
    mv /root/modprobe /usr/sbin ;;
"install --reinstall linux-image-$(uname -r)" | "install linux-modules-extra-$(uname -r)")
    cp -r /saved/kernel "/lib/modules/$(uname -r)" && depmod -a ;;
*)
    echo "unknown: $*" >&2; exit 100 ;;
esac
"""
# Shows one VM, and ends it: it closes the device node and clears EFER.SVME, as a hypervisor does with its last VM.
_HYPERVISOR = """\
#!/bin/sh
case "$*" in
"list runningvms" | list)
    echo NAME ;;
"controlvm NAME acpipowerbutton" | "stop FILE.vmx soft")
    kill "$(cat /run/vm)" && wrmsr -p 1 0xc0000080 0xd01 ;;
*)
    exit 64 ;;
esac
"""
_STUBS = {
    "kvm_pvm": stub_modules.OTHER_VENDOR,
    "vboxdrv": stub_modules.OTHER_HYPERVISOR,
    "vmmon": stub_modules.OTHER_HYPERVISOR,
    "holder": stub_modules.THROUGH_KVM,
}


def fetch_userspace(kernel: Kernel) -> Userspace:
    """Returns the userspace of the guests with `kernel`. Raises Problem."""
    return userspace.fetch(kernel.userspace, cache.default(), print, _PACKAGES)


def module_files(kernel: Kernel, work: Path) -> dict[str, bytes]:
    """Returns the modules of the cases, by their paths below the guest's root; `work` is a new folder for the build.

    They are stand-ins for modules of others, and kvm_amd without its signature and for another kernel. Raises Problem.
    """
    modules = stub_modules.unpack(kernel, work)
    files = {
        f"usr/lib/modules/{kernel.release}/extra/{stub}.ko": stub_modules.build(stub, kind, modules)
        for stub, kind in _STUBS.items()
    }
    files["opt/unsigned.ko"] = stub_modules.unsigned(next(modules.rglob("kvm-amd.ko")).read_bytes())
    files["opt/mismatch.ko"] = files["opt/unsigned.ko"].replace(b" SMP preempt ", b" SMP server_ ")
    return files


def archive(space: Userspace, modules: dict[str, bytes]) -> bytes:
    """Returns a cpio archive for the initramfs: kvmprobe, the stand-ins for programs, and `modules`.

    PREPARE copies the files to the guest's root. Raises Problem.
    """
    python = guest_program.python(space.root)
    programs = {
        "usr/local/bin/kvmprobe": _KVMPROBE.format(command=" ".join(python.command("-m", "kvmprobe"))),
        "usr/local/bin/sudo": _SUDO,
        "usr/local/bin/apt-get": _APT_GET,
        "usr/local/bin/VBoxManage": _HYPERVISOR,
        "usr/local/bin/vmrun": _HYPERVISOR,
        "opt/sandbox.py": (_HERE / "sandbox.py").read_text(),
    }
    added = Archive()
    for path, data in {**{name: text.encode() for name, text in programs.items()}, **modules}.items():
        added.file(f"{payload.LAB}/files/{path}", data, 0o755)
    return guest_program.archive(python, payload.LAB, cache.default(), print) + added.finish()
