"""Each cause that a guest can be put into: the report names it, and what its hint names works, word for word.

One guest goes through all cases of a kernel. Before a case, kvm_amd is not loaded; msr and cpuid are. The guest runs
every command of the hint, and the next check has to confirm SVM. It does not run what stands in `not_here`: a reboot
(the guest would lose the cases that follow; see test_causes_boot.py), and the tools of other distributions. In place of
them:

- `apt-get install …` is a stand-in that puts the files of the package back, because the guest has no network;
- `sudo` is a stand-in that only runs its command, because root runs the hints; $USER is the user `tester`;
- `VBoxManage` and `vmrun` are stand-ins for hypervisors that Debian does not have, and so are their modules (a few
  lines of C). To end the VM is to close the module's device node, and to clear EFER.SVME;
- `action` is what a hint asks for in words. Where `again` differs from `check`, the words ask for another user, or for
  a process outside of the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem
from tests.helpers import stub_modules
from tests.helpers.hinted_guests import Case, faults, follow
from tests.helpers.real_kernels import unavailable

pytestmark = pytest.mark.kernel

_CHECK, _LOAD_KVM, _LOADED = "kvmprobe check", "kvmprobe check --load-kvm", "modprobe kvm_amd"
_AS_TESTER = "setpriv --reuid tester --regid tester --init-groups "
_WITHOUT = "setpriv --bounding-set -{} "
_SANDBOX = "python3 -S /opt/sandbox.py {} " + _CHECK
_MODULES = "/lib/modules/$(uname -r)"
_KVM_AMD = f"{_MODULES}/kernel/arch/x86/kvm/kvm-amd.ko"
_REBOOT = "systemctl reboot"
_FOR_GROUP = "chgrp kvm /dev/kvm; chmod 660 /dev/kvm"
_TMPFS = """
mkdir -p /run/cpu; mount --bind /dev/cpu /run/cpu; mount -t tmpfs tmpfs /dev
mkdir /dev/cpu; mount --bind /run/cpu /dev/cpu; mknod -m 666 /dev/null c 1 3; mknod /dev/kmsg c 1 11
"""
_VM = "sleep infinity </run/other-hypervisor >/dev/null 2>&1 & echo $! >/run/vm"
_HELD = "svm-held-by-another-owner"

_CONFIGURED = "echo {} >/etc/modprobe.d/kvm.conf"
_SLOT = r"kvm_x86_ops=0x$(sed -n 's/^ffffffff\(.*\) . kvm_x86_ops.*/\1/p' /proc/kallsyms)"

_MODPROBE = (
    Case("blacklist-line", "kvm-amd-not-loaded", _CONFIGURED.format("blacklist kvm_amd") + "; modprobe -b kvm_amd"),
    Case("install-line", "kvm-amd-not-loaded", _CONFIGURED.format("install kvm_amd /bin/true"), _LOAD_KVM),
    Case(
        "other-vendor-module",
        "kvm-amd-load-failed",
        f"modprobe kvm; modprobe kvm_pvm {_SLOT}; modprobe kvm_amd",
    ),
    Case("module-index-missing", "kvm-amd-not-loaded", f"rm {_MODULES}/modules.dep*"),
    Case(
        "module-not-installed",
        "kvm-amd-not-loaded",
        f"rm {_KVM_AMD}; depmod -a",
        not_here=(_REBOOT, "dnf install kernel-modules-core-$(uname -r) kernel-modules-$(uname -r)"),
    ),
    Case("modprobe-missing", "kvm-amd-not-loaded", "mv /usr/sbin/modprobe /root", _LOAD_KVM),
    Case(
        "parameter-invalid",
        "kvm-amd-load-failed",
        _CONFIGURED.format("options kvm_amd npt=maybe"),
        _LOAD_KVM,
    ),
    Case("module-mismatch", "kvm-amd-load-failed", f"cp /opt/mismatch.ko {_KVM_AMD}", _LOAD_KVM),
    Case("load-needs-root", "msr-unreadable", "", _AS_TESTER + _LOAD_KVM, again=_CHECK),
    Case("load-not-permitted", "kvm-amd-load-failed", "", _WITHOUT.format("sys_module") + _LOAD_KVM, again=_CHECK),
    Case("modules-of-the-host", "kvm-amd-not-loaded", "touch /.dockerenv", undo="rm /.dockerenv"),
)
_DEVICE = (
    Case("device-is-folder", "kvm-device-missing", f"mkdir /dev/kvm; {_LOADED}"),
    Case("device-is-file", "kvm-amd-not-loaded", "touch /dev/kvm"),
    Case("device-has-wrong-number", "api-version", f"mknod /dev/kvm c 1 3; {_LOADED}"),
    Case("node-missing", "kvm-device-missing", f"{_LOADED}; rm /dev/kvm"),
    Case("no-devtmpfs", "kvm-device-missing", f"{_LOADED}; {_TMPFS}", undo="umount /dev/cpu; umount /dev"),
)
_LOGS = ("journalctl -k -b -g 'avc|apparmor|seccomp'", "ausearch -m avc,seccomp -ts recent")
_RIGHTS = (
    Case("nodev-mount", "kvm-not-permitted", f"{_LOADED}; mount -o remount,nodev /dev"),
    Case(
        "not-in-group",
        "kvm-not-permitted",
        f"{_LOADED}; {_FOR_GROUP}",
        _AS_TESTER + _CHECK,
        undo="gpasswd -d tester kvm",
    ),
    Case(
        "device-for-root-only",
        "kvm-not-permitted",
        f"/lib/systemd/systemd-udevd --daemon; {_LOADED}; udevadm settle; chown 0:0 /dev/kvm; chmod 600 /dev/kvm",
        _AS_TESTER + _CHECK,
        action=("udevadm settle",),
        undo="udevadm control --exit",
    ),
    Case("device-cgroup-refuses", "kvm-not-permitted", _LOADED, _SANDBOX.format("cgroup"), again=_CHECK),
    Case("ioctl-refused", "kvm-not-permitted", _LOADED, _SANDBOX.format("seccomp"), not_here=_LOGS, again=_CHECK),
    Case(
        "open-refused-by-policy",
        "kvm-not-permitted",
        _LOADED,
        _SANDBOX.format("landlock"),
        not_here=("journalctl -k -b -g 'avc|apparmor'", "ausearch -m avc -ts recent"),
        again=_CHECK,
    ),
)
_OWNERS = (
    Case("virtualbox-loaded", _HELD, f"modprobe vboxdrv; {_LOADED}"),
    Case("virtualbox-vms-running", _HELD, f"modprobe vboxdrv; {_VM}; {_LOADED}", undo="modprobe -r vboxdrv"),
    Case("vmware-vms-running", _HELD, f"modprobe vmmon; {_VM}; {_LOADED}", undo="modprobe -r vmmon"),
)
_BEFORE_6_12 = (*_MODPROBE, *_DEVICE, *_RIGHTS, *_OWNERS)

_SINCE_6_12 = (
    # rmmod, because modprobe -r would unload kvm, too, and with it what the kernel's line is about.
    Case("svm-held-at-load", "kvm-amd-load-failed", "modprobe vboxdrv; modprobe kvm_amd; rmmod vboxdrv"),
    Case("virtualbox-vms-running", _HELD, f"modprobe vboxdrv; {_VM}; {_LOADED}", undo="modprobe -r vboxdrv"),
    Case(
        "svm-held-through-kvm",
        "vm-not-created",
        "modprobe -r kvm; echo options kvm enable_virt_at_load=0 >/etc/modprobe.d/kvm.conf; modprobe -a kvm_amd holder",
        f"{_CHECK} --passive",
        again=_CHECK,
        then="svme-owner-unknown",  # a VM was created; the registers show SVME before it, too
        undo="modprobe -r holder",
    ),
)

_STUBS = {
    "kvm_pvm": stub_modules.OTHER_VENDOR,
    "vboxdrv": stub_modules.OTHER_HYPERVISOR,
    "vmmon": stub_modules.OTHER_HYPERVISOR,
    "holder": stub_modules.THROUGH_KVM,
}


@pytest.mark.parametrize(("name", "cases"), [("bookworm", _BEFORE_6_12), ("trixie", _SINCE_6_12)])
def test_the_commands_of_a_hint_remove_its_cause(
    name: str, cases: tuple[Case, ...], real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
    kernel = real_kernel(name)
    modules = stub_modules.unpack(kernel, tmp_path / "modules")
    signed = next(modules.rglob("kvm-amd.ko")).read_bytes()
    files = {
        f"usr/lib/modules/{kernel.release}/extra/{stub}.ko": stub_modules.build(stub, kind, modules)
        for stub, kind in _STUBS.items()
    }
    files["opt/mismatch.ko"] = stub_modules.unsigned(signed).replace(b" SMP preempt ", b" SMP server_ ")
    try:
        results = follow(kernel, cases, tmp_path, files)
    except Problem as problem:
        unavailable(problem)
    print([(case.cause, result["seconds"]) for case, result in zip(cases, results)])
    wrong = {case.cause: found for case, result in zip(cases, results) if (found := faults(case, result))}
    assert not wrong, json.dumps(wrong, indent=1)
    assert len(results) == len(cases)
