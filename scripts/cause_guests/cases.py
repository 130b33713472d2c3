"""The causes that a guest can be put into: how it gets there, and the truth about KVM in that state.

Each case states its truth before any answer of a tool is looked at. Two programs use the cases: tests/lab/test_causes_*
follow kvmprobe's hint in each state, and scripts/other-tools compares the answers of several tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmprobe.lab.qemu import MACHINE, Machine


@dataclass(frozen=True)
class Case:
    """A cause that a guest can be put into, and what follows kvmprobe's hint.

    `cause` and `reason` are those that kvmprobe has to give. `truth` is for any tool: a regular expression that matches
    the right cause; "": KVM can create VMs by SVM. `state`: lines of sh that bring a guest with the machine `machine`
    into the state. `within`: a command that runs a tool as the case needs it, as another user or in a sandbox; a tool's
    command follows. `arguments` are those of `kvmprobe check`.

    `again`: how kvmprobe runs after the hint ("": the same way), `then`: the reason that it gives then ("": one that
    confirms). `not_here`: commands of the hint that a guest of the lab cannot run. `action`: lines of sh for what the
    hint asks for in words, after its commands. `undo`: lines of sh after the last check.
    """

    cause: str
    reason: str
    truth: str
    state: str = ""
    arguments: str = ""
    within: str = ""
    machine: Machine = MACHINE
    not_here: Sequence[str] = ()
    action: Sequence[str] = ()
    again: str = ""
    then: str = ""
    undo: str = ""

    @property
    def check(self) -> str:
        """How kvmprobe runs in the state."""
        return f"{self.within}{_CHECK} {self.arguments}".rstrip()


_CHECK, _LOAD_KVM, _LOADED = "kvmprobe check", "--load-kvm", "modprobe kvm_amd"
_AS_TESTER = "setpriv --reuid tester --regid tester --init-groups "
_WITHOUT_SYS_MODULE = "setpriv --bounding-set -sys_module "
_SANDBOX = "python3 -S /opt/sandbox.py {} "
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

# The truth of several cases. A tool may name what is wrong in its own words.
_NOT_LOADED = r"not loaded|modules? .*loaded"
_NO_NODE = r"/dev/kvm( is missing| does not exist|'? exists\s*: FAIL|: \(No such file)|mknod|device node"
_PERMISSION = r"permission|world writable|\bgroup\b|owner"
_BUSY = r"in use|busy|another|other (hypervisor|owner)|already"
_VIRTUALBOX = r"virtualbox|vboxdrv"

_MODPROBE = (
    Case(
        "blacklist-line",
        "kvm-amd-not-loaded",
        r"blacklist",
        _CONFIGURED.format("blacklist kvm_amd") + "; modprobe -b kvm_amd",
    ),
    Case(
        "install-line",
        "kvm-amd-not-loaded",
        r"\binstall (line|command|kvm_amd)|modprobe\.d",
        _CONFIGURED.format("install kvm_amd /bin/true"),
        _LOAD_KVM,
    ),
    Case(
        "other-vendor-module",
        "kvm-amd-load-failed",
        r"kvm_pvm|vendor module|another module|already loaded",
        f"modprobe kvm; modprobe kvm_pvm {_SLOT}; modprobe kvm_amd",
    ),
    Case(
        "module-index-missing",
        "kvm-amd-not-loaded",
        r"modules\.dep|depmod|index of (the )?modules",
        f"rm {_MODULES}/modules.dep*",
    ),
    Case(
        "module-not-installed",
        "kvm-amd-not-loaded",
        r"not installed|linux-(image|modules)|no such module|kvm[-_]amd(\.ko)? .*(not found|missing)",
        f"rm {_KVM_AMD}; depmod -a",
        not_here=(_REBOOT, "dnf install kernel-modules-core-$(uname -r) kernel-modules-$(uname -r)"),
    ),
    Case(
        "modprobe-missing",
        "kvm-amd-not-loaded",
        r"modprobe.*(missing|not found|not installed|no such file)|\bkmod\b",
        "mv /usr/sbin/modprobe /root",
        _LOAD_KVM,
    ),
    Case(
        "parameter-invalid",
        "kvm-amd-load-failed",
        r"parameter|\boption|\bnpt\b",
        _CONFIGURED.format("options kvm_amd npt=maybe"),
        _LOAD_KVM,
    ),
    Case(
        "module-mismatch",
        "kvm-amd-load-failed",
        r"another kernel|version|vermagic|exec format|mismatch",
        f"cp /opt/mismatch.ko {_KVM_AMD}",
        _LOAD_KVM,
    ),
    Case(
        "load-needs-root",
        "msr-unreadable",
        rf"{_NOT_LOADED}|\broot\b|{_PERMISSION}",
        arguments=_LOAD_KVM,
        within=_AS_TESTER,
        again=_CHECK,
    ),
    Case(
        "load-not-permitted",
        "kvm-amd-load-failed",
        rf"{_NOT_LOADED}|CAP_SYS_MODULE|not permitted",
        arguments=_LOAD_KVM,
        within=_WITHOUT_SYS_MODULE,
        again=_CHECK,
    ),
    Case(
        "modules-of-the-host",
        "kvm-amd-not-loaded",
        rf"{_NOT_LOADED}|on the host",
        "touch /.dockerenv",
        not_here=("docker run --device /dev/kvm IMAGE",),
        undo="rm /.dockerenv",
    ),
)
_DEVICE = (
    Case("device-is-folder", "kvm-device-missing", r"folder|directory", f"mkdir /dev/kvm; {_LOADED}"),
    Case(
        "device-is-file",
        "kvm-amd-not-loaded",
        r"(plain|regular|ordinary) file|file .*in place of|not a (character |char )?device",
        "touch /dev/kvm",
    ),
    Case(
        "device-has-wrong-number",
        "api-version",
        r"\b10, ?232|10:232|major|minor|number|another device",
        f"mknod /dev/kvm c 1 3; {_LOADED}",
    ),
    Case("node-missing", "kvm-device-missing", _NO_NODE, f"{_LOADED}; rm /dev/kvm"),
    Case(
        "no-devtmpfs",
        "kvm-device-missing",
        rf"devtmpfs|{_NO_NODE}",
        f"{_LOADED}; {_TMPFS}",
        undo="umount /dev/cpu; umount /dev",
    ),
)
_LOGS = ("journalctl -k -b -g 'avc|apparmor|seccomp'", "ausearch -m avc,seccomp -ts recent")
_RIGHTS = (
    Case("nodev-mount", "kvm-not-permitted", r"nodev", f"{_LOADED}; mount -o remount,nodev /dev"),
    Case(
        "not-in-group",
        "kvm-not-permitted",
        _PERMISSION,
        f"{_LOADED}; {_FOR_GROUP}",
        within=_AS_TESTER,
        undo="gpasswd -d tester kvm",
    ),
    Case(
        "device-for-root-only",
        "kvm-not-permitted",
        rf"{_PERMISSION}|\broot\b|\bmode\b",
        f"/lib/systemd/systemd-udevd --daemon; {_LOADED}; udevadm settle; chown 0:0 /dev/kvm; chmod 600 /dev/kvm",
        within=_AS_TESTER,
        action=("udevadm settle",),
        undo="udevadm control --exit",
    ),
    Case(
        "device-cgroup-refuses",
        "kvm-not-permitted",
        r"cgroup",
        _LOADED,
        within=_SANDBOX.format("cgroup"),
        again=_CHECK,
    ),
    Case(
        "ioctl-refused",
        "kvm-not-permitted",
        r"seccomp|sandbox|ioctls? .*(refused|denied|not permitted)",
        _LOADED,
        within=_SANDBOX.format("seccomp"),
        not_here=_LOGS,
        again=_CHECK,
    ),
    Case(
        "open-refused-by-policy",
        "kvm-not-permitted",
        r"\bLSM\b|security (module|policy)|apparmor|selinux|landlock|sandbox|policy",
        _LOADED,
        within=_SANDBOX.format("landlock"),
        not_here=("journalctl -k -b -g 'avc|apparmor'", "ausearch -m avc -ts recent"),
        again=_CHECK,
    ),
)
_VMS_OF_VIRTUALBOX = Case(
    "virtualbox-vms-running",
    _HELD,
    _VIRTUALBOX,
    f"modprobe vboxdrv; {_VM}; {_LOADED}",
    undo="modprobe -r vboxdrv",
)
_OWNERS = (
    Case("virtualbox-loaded", _HELD, _VIRTUALBOX, f"modprobe vboxdrv; {_LOADED}"),
    _VMS_OF_VIRTUALBOX,
    Case(
        "vmware-vms-running",
        _HELD,
        r"vmware|vmmon",
        f"modprobe vmmon; {_VM}; {_LOADED}",
        undo="modprobe -r vmmon",
    ),
)
_BEFORE_6_12 = (*_MODPROBE, *_DEVICE, *_RIGHTS, *_OWNERS)

_SINCE_6_12 = (
    # kvm stays loaded: enable_virt_at_load=Y shows that the kernel's line is of loading kvm_amd, not of creating a VM.
    Case("svm-held-at-load", "kvm-amd-load-failed", _BUSY, "modprobe vboxdrv; modprobe kvm_amd; modprobe -r vboxdrv"),
    _VMS_OF_VIRTUALBOX,
    Case(
        "svm-held-through-kvm",
        "vm-not-created",
        "",
        "modprobe -r kvm; echo options kvm enable_virt_at_load=0 >/etc/modprobe.d/kvm.conf; modprobe -a kvm_amd holder",
        "--passive",
        again=_CHECK,
        then="svme-owner-unknown",  # a VM was created; the registers show SVME before it, too
        undo="modprobe -r holder",
    ),
)

# One guest of each kernel can go through these one after the other, by following the hints.
FOLLOWED = {"bookworm": _BEFORE_6_12, "trixie": _SINCE_6_12}

# These end with a boot that differs. All are of bookworm.
REBOOTED = (
    Case(
        "svm-owner-not-found",
        _HELD,
        _BUSY,
        f"{_LOADED}; wrmsr -p 1 0xc0000080 0x1d01",
        not_here=(_REBOOT,),
        undo="wrmsr -p 1 0xc0000080 0xd01",
    ),
    Case(
        "modules-gone",
        "kvm-amd-not-loaded",
        r"/lib/modules|reboot",
        f"mv {_MODULES} /lib/modules/updated",
        not_here=(_REBOOT,),
        undo=f"mv /lib/modules/updated {_MODULES}",
    ),
    Case(
        "module-loading-disabled",
        "kvm-amd-not-loaded",
        r"modules_disabled|module loading|load(ing)? (of )?modules",
        "echo 1 >/proc/sys/kernel/modules_disabled",
        not_here=(_REBOOT,),
        action=("grep -x kvm_amd /etc/modules-load.d/kvm_amd.conf",),
    ),
)
WITH_PARAMETER = (
    Case(
        "svm-cleared-by-clearcpuid",
        "kvm-amd-load-failed",
        r"clearcpuid|command line",
        arguments=_LOAD_KVM,
        machine=Machine(parameters="clearcpuid=svm"),
    ),
    Case(
        "module-blacklisted",
        "kvm-amd-load-failed",
        r"blacklist",
        arguments=_LOAD_KVM,
        machine=Machine(parameters="module_blacklist=kvm_amd"),
    ),
)
WITHOUT_SVM = Case(
    "qemu-without-svm",
    "cpu-lacks-svm",
    r"cpu|processor|svm",
    arguments=_LOAD_KVM,
    machine=Machine("EPYC,-svm"),
)
WITHOUT_NX = Case(
    "no-nx",
    "kvm-amd-load-failed",
    r"\bnx\b|no-execute|execute disable",
    arguments=_LOAD_KVM,
    machine=Machine("EPYC,+svm,-nx"),
)
UNSIGNED = Case(
    "module-unsigned",
    "kvm-amd-load-failed",
    r"\bsigned|signature|lockdown|secure boot",
    f"cp /opt/unsigned.ko {_KVM_AMD}",
    _LOAD_KVM,
    machine=Machine(parameters="lockdown=integrity"),
)
XEN_DOM0 = Case(
    "xen-dom0",
    "cpu-lacks-svm",
    r"\bxen\b|dom0",
    arguments=_LOAD_KVM,
    not_here=(
        "sh -c 'echo XEN_OVERRIDE_GRUB_DEFAULT=0 >>/etc/default/grub.d/xen.cfg'",
        "grub-mkconfig -o /boot/grub/grub.cfg",
        _REBOOT,
    ),
)

# All cases that boot without Xen, by kernel.
BY_KERNEL = {
    "bookworm": (*_BEFORE_6_12, *REBOOTED, *WITH_PARAMETER, WITHOUT_SVM, WITHOUT_NX, UNSIGNED),
    "trixie": _SINCE_6_12,
}
