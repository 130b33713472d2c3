"""The rows of the matrix: each way in which the kernel accepts or refuses SVM, and the right answer for it.

Each state was first seen on real kernels. Only guests of the lab write MSRs; kvmprobe itself never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvmprobe.host.kvm import REQUESTS
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import MACHINE, Machine

# Since 6.12 (b4886fab6fb6, "KVM: Add a module param to allow enabling virtualization when KVM is loaded").
AT_LOAD = "enable_virt_at_load"

Reasons = tuple[str, ...]
# Where SVM works, the reason depends on when the kernel sets SVME: at KVM_CREATE_VM or when kvm_amd is loaded.
_BY_VM: Reasons = ("svme-set-by-create-vm",)
_BY_LOAD: Reasons = ("svme-set-at-module-load",)
_HELD: Reasons = ("svm-held-by-another-owner",)

_EPYC = "EPYC,+svm"
_LOAD = "modprobe kvm_amd"
# The CPUs of the firmware scenarios. In public CPUID dumps all 107 CPUs with SVM since family 0x10 (2007) have SVML,
# CPUID 0x8000000A EDX bit 2. It shows that the CPU has SVM_KEY (APM vol. 2, 15.4 and 15.31), not that a key is set.
_CPU_WITHOUT_SVML = "qemu64,+svm,+npt"
_CPU_WITH_SVML = f"{_CPU_WITHOUT_SVML},+svm-lock,x-force-features=on"  # KVM does not offer SVML to guests, so force it
_SVMDIS, _SVMDIS_LOCKED = 0x10, 0x18  # VM_CR; LOCK is bit 3


@dataclass(frozen=True)
class Scenario:
    """A row of the matrix. `expected` are the right reasons (usually one), `at_load` those on a kernel with
    enable_virt_at_load if they differ.

    `prepare` are lines of sh before the probe, `arguments` those of `kvmprobe check`, `user` is the UID that runs it.
    `needs`: the row applies only to a kernel whose kvm has this parameter. `usable` and `cause` are the truth for any
    tool: can KVM create VMs by SVM; if not, a regular expression that matches the right cause.
    """

    name: str
    expected: Reasons
    at_load: Reasons = ()
    machine: Machine = MACHINE
    prepare: Sequence[str] = (_LOAD,)
    arguments: Sequence[str] = ()
    user: int = 0
    needs: str = ""
    usable: bool = True
    cause: str = ""

    def reasons(self, kernel: Kernel) -> Reasons:
        """Returns the right reasons on `kernel`."""
        return self.at_load if self.at_load and AT_LOAD in kernel.parameters else self.expected

    def applies(self, kernel: Kernel) -> bool:
        """Whether `kernel` has what the scenario needs."""
        return not self.needs or self.needs in kernel.parameters


def _works(name: str, machine: Machine, prepare: Sequence[str] = (_LOAD,), arguments: Sequence[str] = ()) -> Scenario:
    return Scenario(name, _BY_VM, _BY_LOAD, machine, prepare, arguments)


def _cpu(name: str, reason: str, cpu: str, cause: str) -> Scenario:
    return Scenario(name, (reason,), machine=Machine(cpu), usable=False, cause=cause)


def _firmware(name: str, vm_cr: int, cpu: str = _CPU_WITH_SVML) -> Scenario:
    """The firmware has switched SVM off. The cause is the firmware also with SVML: the registers cannot show a key."""
    machine = Machine(cpu, 1, "512M", vm_cr=vm_cr)
    return Scenario(name, ("firmware-disabled",), machine=machine, usable=False, cause=_FIRMWARE)


def _held(name: str, cpus: str, parameters: str = "", needs: str = "") -> Scenario:
    """SVME is set on `cpus` before kvm_amd is loaded, as by another hypervisor."""
    prepare = ("modprobe msr", _WRITES, *(_wrmsr(cpu, _ON) for cpu in cpus.split()), _LOAD)
    machine = Machine(_EPYC, parameters=parameters)
    return Scenario(name, _HELD, (), machine, prepare, needs=needs, usable=False, cause=_OWNER)


_ON, _OFF = "0x1d01", "0xd01"
_WRITES = "echo on >/sys/module/msr/parameters/allow_writes"  # since 5.9


def _wrmsr(cpu: str | int, value: str) -> str:
    return f"wrmsr -p {cpu} 0xc0000080 {value}"  # EFER


def _background(script: str) -> tuple[str, ...]:
    """Starts a Python script and waits for its first output."""
    return (
        f"python3 -S -c '{script}' >/ready 2>&1 &",
        "while ! [ -s /ready ] && kill -0 $!; do sleep 0.1; done",
    )


_KVM = f'import fcntl, os, time; CREATE = {REQUESTS["KVM_CREATE_VM"]}; kvm = os.open("/dev/kvm", os.O_RDWR); '
_KEEP_VM = _background(_KVM + 'vm = fcntl.ioctl(kvm, CREATE, 0); print("ready", flush=True); time.sleep(600)')
_CHURN = _background(
    _KVM + 'print("ready", flush=True)\n'
    "while True: vm = fcntl.ioctl(kvm, CREATE, 0); time.sleep(0.002); os.close(vm); time.sleep(0.002)"
)
# On each CPU a program waits until KVM has set SVME, and from then on sets it in a loop. It sets SVME again before
# kvmprobe can see it cleared, except perhaps on the CPU where kvmprobe itself runs: QEMU's CPUs share one thread, so
# the other CPU runs next.
_SETTERS = (
    "import os\n"
    "for cpu in os.sched_getaffinity(0):\n"
    "    if os.fork() == 0: break\n"
    "else: print('ready', flush=True); os._exit(0)\n"
    "os.sched_setaffinity(0, {cpu}); msr = os.open(f'/dev/cpu/{cpu}/msr', os.O_RDWR)\n"
    "while not os.pread(msr, 8, 0xC0000080)[1] & 0x10: pass\n"
    "while True: os.pwrite(msr, (0x1D01).to_bytes(8, 'little'), 0xC0000080)"
).replace("'", '"')

_CPU_CAUSE = r"cpu|processor|svm"
_FIRMWARE = r"bios|firmware|uefi"
_OWNER = r"in use|busy|another|other (hypervisor|owner)|already"
_MODULE = r"modprobe|module|not loaded"
_RIGHTS = r"permi|root|privilege|\bgroup\b"

_NO_AT_LOAD = "kvm.enable_virt_at_load=0"
_NESTED = ("--nested",)

SCENARIOS = (
    # SVM works
    _works("epyc", Machine(_EPYC)),
    _works("hygon", Machine("Dhyana,+svm"), arguments=_NESTED),
    _works("one-cpu", Machine(_EPYC, 1)),
    _works("four-cpus", Machine(_EPYC, 4)),
    _works("no-npt", Machine(f"{_EPYC},-npt"), arguments=_NESTED),
    _works("low-highest-leaf", Machine(f"{_EPYC},xlevel=0x80000008")),
    _works("one-cpu-offline", Machine(_EPYC), ("echo 0 >/sys/devices/system/cpu/cpu1/online", _LOAD)),
    _works("lockdown-integrity", Machine(_EPYC, parameters="lockdown=integrity")),
    _works("lockdown-confidentiality", Machine(_EPYC, parameters="lockdown=confidentiality")),
    Scenario("no-virt-at-load", _BY_VM, machine=Machine(_EPYC, parameters=_NO_AT_LOAD), needs=AT_LOAD),
    # A guest of a guest: its own guest, and the guest in that, are the third and the fourth level.
    Scenario(
        "in-a-guest",
        _BY_LOAD,
        machine=Machine(_CPU_WITHOUT_SVML, 1, "512M", vm_cr=0),
        arguments=_NESTED,
        needs=AT_LOAD,
    ),
    # the CPU
    _cpu("no-svm", "cpu-lacks-svm", "EPYC,-svm", _CPU_CAUSE),
    _cpu("intel", "vendor-not-amd", "Skylake-Client", _CPU_CAUSE),
    _cpu("amd-as-intel", "vendor-not-amd", f"{_EPYC},vendor=GenuineIntel", _CPU_CAUSE),
    # the firmware
    _firmware("svmdis", _SVMDIS),
    _firmware("svmdis-locked", _SVMDIS_LOCKED),
    _firmware("svmdis-locked-without-svml", _SVMDIS_LOCKED, _CPU_WITHOUT_SVML),
    # the kernel
    Scenario("not-loaded", ("kvm-amd-not-loaded",), prepare=(), usable=False, cause=_MODULE),
    Scenario(
        "blacklisted",
        ("kvm-amd-not-loaded",),
        prepare=("echo blacklist kvm_amd >/etc/modprobe.d/no-kvm.conf", "modprobe -b kvm_amd || true"),
        usable=False,
        cause=_MODULE,
    ),
    Scenario("load-kvm", _BY_VM, _BY_LOAD, prepare=(), arguments=("--load-kvm",)),
    Scenario(
        "load-kvm-refused",
        ("kvm-amd-load-failed",),
        machine=Machine(_EPYC, parameters="module_blacklist=kvm_amd"),
        prepare=(),
        arguments=("--load-kvm",),
        usable=False,
        cause=_MODULE,
    ),
    Scenario("no-msr-device", ("guest-ran",), arguments=("--no-load",)),
    _works("no-cpuid-device", Machine(_EPYC), ("modprobe msr", _LOAD), ("--no-load",)),
    Scenario("ordinary-user", ("kvm-not-permitted",), user=65534, usable=False, cause=_RIGHTS),
    Scenario("user-of-kvm", ("guest-ran",), prepare=(_LOAD, "chmod 666 /dev/kvm"), user=65534),
    # another owner of SVM, other VMs
    _held("held-first", "0"),
    _held("held-second", "1"),
    _held("held-every", "0 1"),
    _held("held-second-no-virt-at-load", "1", _NO_AT_LOAD, AT_LOAD),
    _held("held-every-no-virt-at-load", "0 1", _NO_AT_LOAD, AT_LOAD),
    Scenario("another-vm", ("svme-set-by-another-vm",), _BY_LOAD, prepare=(_LOAD, *_KEEP_VM)),
    Scenario(
        "vms-come-and-go",
        ("interfered", "svme-set-by-another-vm", *_BY_VM),
        _BY_LOAD,
        prepare=(_LOAD, *_CHURN),
    ),
    # a kernel that does not do what it promises
    Scenario(
        "svme-not-set",
        ("svme-not-set",),
        prepare=("modprobe msr", _WRITES, _LOAD, *_KEEP_VM, _wrmsr(1, _OFF)),
        usable=False,
        cause=r"svme",
    ),
    Scenario(
        "svme-not-cleared",
        ("svme-not-cleared",),
        machine=Machine(_EPYC, parameters=_NO_AT_LOAD),
        prepare=("modprobe msr", _WRITES, _LOAD, *_background(_SETTERS)),
    ),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
