"""The types of evidence: what was read on a host, as a report's JSON has it. The same as a JSON Schema:
report.schema.json.

Unknown is `None` (null in JSON). Something that could not be read is `{"error": "EPERM"}` in place of its value.
Numbers that people compare with manuals (registers, CPUID) are hexadecimal strings. Sets of CPUs are strings in the
kernel's list format ("0-3,8"). Dictionaries by CPU have the CPU's number as a string.

Types only, imported where TYPE_CHECKING: creating these classes would take a tenth of a probe's time.
"""

from __future__ import annotations

from typing import TypedDict, Union

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Soak, Trace, Watch
    from kvmprobe.model.context_evidence import Context
    from kvmprobe.model.nested_evidence import Nested, NestedReport
    from kvmprobe.model.sev_evidence import Sev


class Failure(TypedDict):
    """In place of a value that could not be read."""

    error: str  # "EPERM"; a message where there is no errno


Answer = Union[int, Failure, None]  # of an ioctl
Reading = Union[str, Failure, None]  # of a register: hexadecimal
Leaf = Union[list[str], Failure]  # EAX, EBX, ECX, EDX


class HostInfo(TypedDict):
    name: str
    machine: str  # as uname -m
    euid: int
    sysroot: str | None


class KernelInfo(TypedDict):
    release: str
    version: str
    lockdown: Reading  # "none", "integrity", "confidentiality"


class MoreOfCpuInfo(TypedDict, total=False):
    """Missing in evidence of older versions."""

    clock_flags: list[str] | None  # only those about the TSC: "constant_tsc", "nonstop_tsc"
    svm_flags: list[str] | None  # those of registers.CPUINFO_SVM_FLAGS


class CpuInfo(MoreOfCpuInfo):
    """A CPU's entry in /proc/cpuinfo."""

    vendor_id: str | None
    cpu_family: str | None
    model: str | None
    model_name: str | None
    stepping: str | None
    microcode: str | None
    flags: list[str] | None  # only those that bear on virtualization


class Cpus(TypedDict):
    online: str | None  # None: no list of the kernel could be read, so there may be more CPUs than the snapshots have
    offline: str | None
    online_at_end: str | None
    cpuid: dict[str, dict[str, Leaf]]  # by CPU, by leaf
    cpuinfo: dict[str, CpuInfo] | Failure
    sev_status: Reading  # MSR SEV_STATUS, read only in a VM whose CPUID has SEV


class MoreOfModule(TypedDict, total=False):
    """Missing in evidence of older versions."""

    taint: Reading  # as /sys/module/NAME/taint: "OE" is out of tree and unsigned; "": none
    version: Reading  # as /sys/module/NAME/version, which modules from outside of the kernel's tree have


class Module(MoreOfModule):
    state: str  # "live", "coming", "going", "builtin"
    refcount: int | None
    holders: list[str]
    parameters: dict[str, Reading]


class LoadAttempt(TypedDict):
    module: str
    status: int | None  # modprobe's exit status; None: modprobe could not be run
    output: str
    unloaded: bool | None  # whether kvmprobe unloaded it again; None: it was to stay


class Snapshot(TypedDict):
    """The registers of every online CPU at one moment."""

    phase: str  # of values.SNAPSHOT_PHASES
    cpus: dict[str, dict[str, Reading]]


class Device(TypedDict):
    path: str
    registered: bool | None  # by a driver: /sys/class/misc/kvm exists
    type: str | None  # "char", "block", "file", ...; None: the node is missing
    number: str | None  # "10:232"
    mode: str | None  # "0660"
    owner: str | None
    group: str | None
    opened: bool | Failure | None  # None: not tried


class MoreOfIoctls(TypedDict, total=False):
    """Missing in evidence of older versions, and where KVM was not asked."""

    # Of the leaves in registers.FEATURE_LEAVES, those that KVM can offer to a guest.
    KVM_GET_SUPPORTED_CPUID: dict[str, Leaf] | Failure


class Ioctls(MoreOfIoctls):
    KVM_GET_API_VERSION: Answer
    KVM_CREATE_VM: Answer  # 0: it succeeded (the descriptor's number is left out)
    KVM_CHECK_EXTENSION: dict[str, Answer]


class MoreOfRun(TypedDict, total=False):
    """Missing in evidence of older versions, and of guests that did not run to their end."""

    us: float  # microseconds from setting the registers to HLT and its check
    nested: NestedReport  # of a guest in a guest that was started


class GuestRun(MoreOfRun):
    cpu: int
    result: str  # "ok", "skipped", "wrong", "failed", "timeout"
    detail: str | None
    error: str | None  # errno of the call that `detail` names


class Uevent(TypedDict):
    """KVM's uevent for one VM."""

    event: str  # "create", "destroy"
    pid: int | None
    comm: str | None
    ours: bool
    count: int | None  # VMs alive after it
    created: int | None
    phase: str  # of the first snapshot after it


class Uevents(TypedDict):
    source: str | None  # "pyudev 0.24.4"; None: no uevents could be received
    error: str | None  # why not
    events: list[Uevent]


class VmUser(TypedDict):
    """Another process with VMs."""

    pid: int
    comm: str | None
    vms: int


class KvmUser(TypedDict):
    """Another process that has /dev/kvm, a VM or a vCPU open."""

    pid: int
    comm: str | None


class Times(TypedDict):
    """Of the one VM of a probe, in microseconds."""

    create: float  # KVM_CREATE_VM
    close: float  # of the VM's descriptor, which destroys it


class LeftBehind(TypedDict):
    """What of our VM was still there after it and /dev/kvm were closed."""

    references_before: int | None  # of kvm_amd; None: it is built in or missing, or the number could not be read
    references_after: int | None
    users: list[KvmUser] | None  # None: not searched for, kvm_amd has no more references than before
    descriptors: list[str]  # of KVM's files that are open in kvmprobe since then: "anon_inode:kvm-vm"


class LogLine(TypedDict):
    seconds: float  # since boot
    text: str


class Log(TypedDict):
    error: str | None
    lines: list[LogLine]


class ConfigurationLine(TypedDict):
    file: str
    number: int  # from 1
    text: str


class WouldRun(TypedDict):
    """What `modprobe -n -v kvm_amd` (which changes nothing) gave."""

    status: int | None  # None: modprobe could not be run
    output: str


class ModuleFiles(TypedDict):
    """The files that decide whether modprobe finds and loads kvm_amd, where it is missing."""

    folder: bool | Failure  # /lib/modules/RELEASE exists
    index: bool | None  # it has modules.dep; None: no folder
    kvm_amd: str | None  # "module": in modules.dep; "builtin": in modules.builtin; None: in neither, or no index
    lines: list[ConfigurationLine] | Failure  # of modprobe's configuration, about KVM's modules
    would_run: WouldRun | None  # None: --sysroot, whose modprobe is not this machine's
    in_force: list[str] | None  # the lines of `modprobe -c` about them; None as above, or modprobe could not be run
    loading_disabled: Reading  # "1": kernel.modules_disabled


class Surroundings(TypedDict):
    """Where the host runs."""

    container: str | None  # "docker", "podman", "lxc", "systemd-nspawn", "kubernetes"; None: none found
    hypervisor_type: Reading  # /sys/hypervisor/type: "xen"
    xen_features: Reading  # /sys/hypervisor/properties/features, hexadecimal: bit 11 is XENFEAT_dom0
    vendor: Reading  # of the machine, by DMI
    product: Reading
    bootloader_type: Reading  # kernel.bootloader_type, decimal: 208 to 223 is kexec


class Mount(TypedDict):
    path: str
    type: str
    options: str


class MoreRights(TypedDict, total=False):
    """Missing in evidence of older versions."""

    pid_namespace: bool | Failure  # this process is in a PID namespace: its PID is not that of KVM's uevents


class Rights(MoreRights):
    """What decides whether this process may use /dev/kvm and the registers."""

    groups: list[str] | Failure  # of the process, by name
    capabilities: Reading  # CapEff, hexadecimal
    seccomp: Reading  # "0": no filter, "2": a filter
    user_namespace: bool | Failure  # user ids are mapped: root here is not the host's
    lsm: Reading  # "lockdown,capability,apparmor"; None: unknown
    dev_mounts: list[Mount] | Failure | None  # on /dev and /dev/kvm; None: not needed, /dev/kvm opened


class MoreEvidence(TypedDict, total=False):
    """Of some commands only, or missing in evidence of older versions."""

    trace: Trace
    watch: Watch
    soak: Soak
    guest_left_out: dict[str, str]  # the CPUs on which the guest was not to run, by number: why
    passive: bool  # --passive: /dev/kvm was not opened, no VM was created
    command_line: list[str] | Failure  # the parameters of /proc/cmdline that bear on KVM
    command_line_left_out: int | None  # how many others it has; None: it could not be read. Older evidence, which does
    # not have this, kept only parameters that keep KVM from working
    module_files: ModuleFiles
    surroundings: Surroundings
    rights: Rights
    context: Context
    times: Times  # missing where no VM was created
    available_kb: int  # of memory, where KVM_CREATE_VM answered ENOMEM; missing where unknown
    left_behind: LeftBehind  # missing where /dev/kvm could not be opened
    nested: Nested
    sev: Sev  # of --sev


class Evidence(MoreEvidence):
    taken_at: str  # UTC, ISO 8601
    duration_ms: float
    host: HostInfo
    kernel: KernelInfo
    modules: dict[str, Module] | None  # of KVM and of other users of SVM; None: /sys/module is missing
    loads: list[LoadAttempt]
    cpus: Cpus
    snapshots: list[Snapshot]
    device: Device
    ioctls: Ioctls
    guest: list[GuestRun]
    uevents: Uevents
    vm_users: list[VmUser] | None  # processes with other VMs; None: they were not searched for
    log: Log
