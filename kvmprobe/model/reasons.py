"""The closed list of reasons a verdict can have: one place for names, status, meaning and remedy.

`explain` and the README's table come from here. Names are promised to the outside.
"""

from __future__ import annotations

from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_NOT_APPLICABLE

EXIT_STATUS = {
    "confirmed": EXIT_CONFIRMED,
    "failed": EXIT_FAILED,
    "inconclusive": EXIT_INCONCLUSIVE,
    "not applicable": EXIT_NOT_APPLICABLE,
}


class Reason:
    """`when`: what was read; `kernel`: what the kernel does there; `log`: how its log looks; `hint`: what to do."""

    def __init__(self, name: str, status: str, when: str, kernel: str, log: str, hint: str) -> None:
        self.name = name
        self.status = status
        self.when = when
        self.kernel = kernel
        self.log = log
        self.hint = hint


_FIRMWARE_LOG = (
    "5.10: 'kvm: disabled by bios'; 6.1: 'kvm: support for 'kvm_amd' disabled by bios'; 6.12 and later: 'SVM disabled "
    "(by BIOS) in MSR_VM_CR', and then 'kvm_amd: SVM not supported by CPU N', which is untrue of the CPU."
)

_TABLE = (
    Reason(
        "svme-set-by-create-vm",
        "confirmed",
        "EFER.SVME was 0 before and 1 after KVM_CREATE_VM on every online CPU.",
        "KVM_CREATE_VM makes svm_hardware_enable() (since 6.12 svm_enable_virtualization_cpu()) write EFER.SVME on "
        "every CPU for the first VM (arch/x86/kvm/svm/svm.c, virt/kvm/kvm_main.c). Without enable_virt_at_load "
        "it is cleared again when the last VM is gone.",
        "Nothing: this is the normal case before 6.12, and with kvm.enable_virt_at_load=0 since.",
        "Nothing to do: KVM can use SVM on this host.",
    ),
    Reason(
        "svme-set-at-module-load",
        "confirmed",
        "EFER.SVME was already 1 on every online CPU, kvm_amd is loaded with kvm.enable_virt_at_load=Y, and a guest "
        "ran on every online CPU.",
        "Since 6.12 kvm_init() enables virtualization on every CPU when kvm_amd loads, and clears SVME when it "
        "unloads (kvm_enable_virtualization() in virt/kvm/kvm_main.c).",
        "Nothing: this is the normal case since 6.12.",
        "Nothing to do: KVM can use SVM on this host. Where another hypervisor needs SVM while no VM of KVM is alive: "
        "kvm.enable_virt_at_load=0 on the kernel's command line, or 'options kvm enable_virt_at_load=0' in a file in "
        "/etc/modprobe.d.",
    ),
    Reason(
        "svme-set-by-another-vm",
        "confirmed",
        "EFER.SVME was already 1 on every online CPU because other VMs are alive, and a guest ran on every online CPU.",
        "Without enable_virt_at_load only the first KVM_CREATE_VM writes EFER.SVME; later ones only count "
        "(kvm_usage_count in virt/kvm/kvm_main.c).",
        "Nothing.",
        "Nothing to do: KVM can use SVM on this host. To see SVME change, run the probe while no VM is alive.",
    ),
    Reason(
        "vendor-not-amd",
        "not applicable",
        "The processor's vendor is neither AuthenticAMD nor HygonGenuine.",
        "kvm_amd's has_svm() (6.12: __kvm_is_svm_supported()) looks at the vendor first (arch/x86/kvm/svm/svm.c).",
        "5.10, 6.1: 'has_svm: not amd or hygon'; 6.12: 'kvm_amd: CPU N isn't AMD or Hygon'; if kvm_amd was loaded.",
        "Nothing to do: SVM exists on AMD and Hygon processors only. On Intel KVM needs VMX and kvm_intel.",
    ),
    Reason(
        "kvm-without-svm",
        "not applicable",
        "The processor shows no SVM, and KVM answers all the same: through another backend, which is named.",
        "kvm.ko serves /dev/kvm for whichever vendor module registered with it: kvm_intel (VMX), or one that needs no "
        "hardware virtualization, such as kvm_pvm in a cloud guest.",
        "The backend's own lines.",
        "Nothing to do: VMs run here, but not by SVM, so there is no EFER.SVME to confirm.",
    ),
    Reason(
        "cpu-lacks-svm",
        "failed",
        "Raw CPUID 0x80000001 ECX has no SVM bit (bit 2), or the CPU has no such leaf.",
        "has_svm() refuses. Raw CPUID is not touched by the kernel: /proc/cpuinfo lacks svm too, but it would also "
        "lack it where the firmware disabled SVM (since 6.7).",
        "5.10, 6.1: 'has_svm: svm not available'; 6.12: 'kvm_amd: SVM not supported by CPU N'.",
        "In a VM: have the hypervisor outside offer nested virtualization (QEMU: -cpu host or +svm; "
        "kvm_amd: nested=1 there). On bare metal: this processor model cannot run VMs with KVM.",
    ),
    Reason(
        "firmware-disabled",
        "failed",
        "VM_CR.SVMDIS (bit 4) is 1 and CPUID 0x8000000A EDX has no SVML: only the firmware's setup can change it.",
        "is_disabled() (6.12: the CPU's set-up at boot, which also hides svm from /proc/cpuinfo) reads VM_CR "
        "(AMD APM volume 2, 15.4 and 15.30.1).",
        _FIRMWARE_LOG,
        "Enable 'SVM Mode' (also called SVM, AMD-V, Secure Virtual Machine, Virtualization Technology or "
        "Virtualization Extensions; usually under Advanced > CPU Configuration) in the firmware's setup and switch "
        "the machine off and on again.",
    ),
    Reason(
        "firmware-disabled-with-key",
        "failed",
        "VM_CR.SVMDIS (bit 4) is 1 and CPUID 0x8000000A EDX has SVML: SVM is locked with a key.",
        "KVM makes no difference between this and a firmware switch: is_disabled() sees SVMDIS in both cases. Whoever "
        "knows the 64-bit key can write it to the MSR SVM_KEY and then clear SVMDIS (AMD APM volume 2, 15.31).",
        _FIRMWARE_LOG,
        "Enable 'SVM Mode' (AMD-V, Virtualization Technology) in the firmware's setup. Where there is no such entry, "
        "a vendor's or a boot-time security product holds the key: ask there. kvmprobe never writes the key.",
    ),
    Reason(
        "sev-guest",
        "failed",
        "This host is itself a memory-encrypted guest: SEV_STATUS.SEV (MSR 0xC0010131 bit 0) is 1.",
        "kvm_amd refuses because SEV guests cannot nest: has_svm() (6.12: __kvm_is_svm_supported()) asks "
        "cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT).",
        "'KVM is unsupported when running as an SEV guest'.",
        "Use an instance type without memory encryption (no SEV, SEV-ES, SEV-SNP), or bare metal.",
    ),
    Reason(
        "kvm-amd-not-loaded",
        "failed",
        "CPU and firmware allow SVM, and there is no kvm_amd, neither loaded nor built in.",
        "Usually udev loads kvm_amd at boot by the CPU's feature alias (cpu:type:x86,…feature:*00C2*).",
        "No line of kvm_amd.",
        "Load it: 'modprobe kvm_amd', or let kvmprobe try and keep the kernel's answer: 'kvmprobe --load-kvm'. If it "
        "does not come by itself at boot, look for a blacklist in /etc/modprobe.d and module_blacklist= in "
        "/proc/cmdline.",
    ),
    Reason(
        "kvm-amd-load-failed",
        "failed",
        "CPU and firmware allow SVM, and the kernel refused to load kvm_amd.",
        "modprobe's answer is the errno of init_module(2): svm_init() in arch/x86/kvm/svm/svm.c, or the module "
        "loader before it (not found, wrong version, signature, lockdown, module_blacklist=).",
        "Look for the lines of kvm, kvm_amd and 'module' at the time of the attempt.",
        "Follow modprobe's message and the kernel's log; after a kernel update without reboot the modules of the "
        "running kernel may be gone.",
    ),
    Reason(
        "kvm-device-missing",
        "failed",
        "kvm_amd is there and /dev/kvm is not, or nothing answers behind it.",
        "kvm_init() registers the misc device 'kvm' (10:232) last; devtmpfs makes the node (virt/kvm/kvm_main.c).",
        "A refusal of kvm_amd when it is built in: its folder in /sys/module then stays.",
        "In a container: pass the device in (docker run --device /dev/kvm). On a host: see whether devtmpfs is "
        "mounted on /dev, and the kernel's log about kvm.",
    ),
    Reason(
        "kvm-not-permitted",
        "inconclusive",
        "/dev/kvm may not be opened by this user.",
        "The node's owner and mode decide (udev's 50-udev-default.rules: group kvm, 0660), in containers also the "
        "device cgroup.",
        "Nothing.",
        "Run as root, or as a member of the group that owns /dev/kvm (usually 'kvm').",
    ),
    Reason(
        "api-version",
        "failed",
        "KVM_GET_API_VERSION did not answer 12.",
        "kvm_dev_ioctl() answers KVM_API_VERSION, which has been 12 since 2.6.22 (include/uapi/linux/kvm.h).",
        "Nothing.",
        "Whatever answers at /dev/kvm is not Linux's KVM: see what the node really is (ls -l /dev/kvm: 10, 232).",
    ),
    Reason(
        "svm-held-by-another-owner",
        "failed",
        "EFER.SVME is 1 on some CPU although KVM has not set it, so KVM_CREATE_VM or loading kvm_amd fails.",
        "svm_hardware_enable() refuses with EBUSY when it finds SVME set (arch/x86/kvm/svm/svm.c). Before 6.12 "
        "KVM_CREATE_VM then fails with EBUSY; since 6.12 loading kvm_amd fails with EIO, or KVM_CREATE_VM with "
        "kvm.enable_virt_at_load=0.",
        "'kvm: enabling virtualization on CPU1 failed'.",
        "Find who else uses SVM and unload it: VirtualBox (vboxdrv), VMware (vmmon), another hypervisor module. "
        "A kexec from a kernel that did not switch SVM off leaves it set until a reboot.",
    ),
    Reason(
        "create-vm-failed",
        "failed",
        "KVM_CREATE_VM failed for another reason, which is named.",
        "kvm_dev_ioctl_create_vm() → kvm_create_vm() (virt/kvm/kvm_main.c).",
        "The lines of kvm at that time.",
        "ENOMEM: no memory; EMFILE, ENFILE: too many open files; EPERM, EACCES: a security module or seccomp filter "
        "(container); EBUSY, EIO: perhaps another owner of SVM, whose EFER.SVME could not be read.",
    ),
    Reason(
        "svme-not-set",
        "failed",
        "KVM_CREATE_VM succeeded, and EFER.SVME is 0 on some online CPU.",
        "svm_hardware_enable() should have written it on every online CPU; VMRUN is an invalid instruction without.",
        "Nothing, until a guest runs on that CPU: then an oops.",
        "Do not run VMs here. It is a defect of the kernel, or something cleared EFER.SVME behind its back: report it "
        "with this report attached.",
    ),
    Reason(
        "svme-not-cleared",
        "failed",
        "The last VM is gone, EFER.SVME should be 0, and it is 1 on some online CPU.",
        "kvm_destroy_vm() → hardware_disable_all() → svm_hardware_disable() clears it with the last VM, unless "
        "kvm.enable_virt_at_load=Y.",
        "Nothing. A later KVM_CREATE_VM would fail there: 'kvm: enabling virtualization on CPU1 failed'.",
        "It is a defect of the kernel, or something set EFER.SVME behind its back: report it with "
        "this report attached.",
    ),
    Reason(
        "cpus-disagree",
        "failed",
        "Online CPUs differ in what they support (vendor, SVM bit, SVML) or in VM_CR.SVMDIS.",
        "Newer kernels look at every CPU (6.12: svm_check_processor_compat()) and refuse as a whole; older ones look "
        "where modprobe happens to run (5.10, 6.1: has_svm(), is_disabled()).",
        "As for a CPU without SVM or with SVM disabled, perhaps on some boots only.",
        "Update the firmware, or load its defaults and enable 'SVM Mode' again; in a VM make all vCPUs the same model.",
    ),
    Reason(
        "guest-failed",
        "failed",
        "EFER.SVME is 1, and the guest did not run to its end with the right answer.",
        "KVM_RUN → svm_vcpu_run() executes VMRUN (arch/x86/kvm/svm/svm.c). The guest computes, writes a byte to a "
        "port and halts.",
        "The lines of kvm_amd at that time, for instance a failed VMRUN or 'kvm_run: exit reason'.",
        "Report it with this report attached: the kernel, the microcode, or an outer hypervisor's nested SVM is at "
        "fault.",
    ),
    Reason(
        "msr-unreadable",
        "inconclusive",
        "EFER or VM_CR (or, where they decide, raw CPUID) could not be read.",
        "/dev/cpu/N/msr needs the module msr and CAP_SYS_RAWIO (arch/x86/kernel/msr.c).",
        "Nothing.",
        "Run as root, and let kvmprobe load the module msr (no --no-load). In a container the device and "
        "CAP_SYS_RAWIO must be passed in.",
    ),
    Reason(
        "witnesses-disagree",
        "failed",
        "Independent witnesses (the kernel's trace, ptrace, the registers, KVM's uevents) contradict each other; only "
        "trace and watch ask more than one.",
        "KVM writes EFER by wrmsr, which its trace event shows, and what is written is what the register then reads. "
        "Something else that writes EFER, or a hypervisor below that answers reads with something else, breaks that.",
        "Nothing.",
        "Believe none of them: see which CPU and which witness stand alone, and what else uses SVM on this host.",
    ),
    Reason(
        "interfered",
        "inconclusive",
        "Others' VMs came and went during the probe, or its guest was kept from a CPU, or no VM was made (a passive "
        "probe, a watched command without one), so before and after cannot be compared.",
        "EFER.SVME belongs to the CPU, not to a VM: any other VM's first and last moment changes it too.",
        "Nothing.",
        "Run the probe again while no VM is being started or stopped, and allowed on all CPUs (cpuset).",
    ),
)

REASONS = {reason.name: reason for reason in _TABLE}
