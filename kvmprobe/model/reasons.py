"""The closed list of reasons that a verdict can have: their names, status, meaning and remedy in one table.

`explain`, the documentation and the formats take them from here. Consumers rely on the names.
"""

from __future__ import annotations

from kvmprobe.model.nested_reasons import NESTED_GUEST_FAILED, NESTED_GUEST_NOT_RUN
from kvmprobe.model.requirement_reasons import REQUIREMENT_REASONS
from kvmprobe.model.verdict_status import Reason

_NO_LOG = "No line."
_REPORT_HINT = "If that fails too, send this to your distribution or kvm@vger.kernel.org: `kvmprobe -o report.json`."
_RELOAD_HINT = (
    "If no VM is alive, load kvm_amd again: `modprobe -r kvm_amd`, `modprobe kvm_amd`. If that does not help, "
    "install the newest kernel and microcode, and reboot."
)

_TABLE = (
    Reason(
        "svme-set-by-create-vm",
        "confirmed",
        "EFER.SVME was 0 before KVM_CREATE_VM and 1 after it on every online CPU.",
        "For the first VM, KVM_CREATE_VM calls svm_hardware_enable() on every CPU, which sets EFER.SVME (since 6.12: "
        "svm_enable_virtualization_cpu(); arch/x86/kvm/svm/svm.c, virt/kvm/kvm_main.c). Without enable_virt_at_load "
        "KVM clears SVME again when the last VM is gone.",
        "No line. This is the normal case before 6.12, and since 6.12 with kvm.enable_virt_at_load=0.",
        "Nothing to do: KVM can use SVM on this host.",
    ),
    Reason(
        "svme-set-at-module-load",
        "confirmed",
        "EFER.SVME was already 1 on every online CPU, kvm_amd is loaded with kvm.enable_virt_at_load=Y, and a guest "
        "ran on every online CPU.",
        "Since 6.12 kvm_init() sets EFER.SVME on every CPU when kvm_amd is loaded and clears it when kvm_amd is "
        "unloaded (kvm_enable_virtualization() in virt/kvm/kvm_main.c).",
        "No line. This is the normal case since 6.12.",
        "Nothing to do: KVM can use SVM on this host. VirtualBox before 7.2.10, and any on Linux before 6.16, "
        "needs kvm.enable_virt_at_load=0 on the kernel's command line; later ones need Y.",
    ),
    Reason(
        "svme-set-by-another-vm",
        "confirmed",
        "EFER.SVME was already 1 on every online CPU because other VMs are alive, and a guest ran on every online CPU.",
        "Without enable_virt_at_load only the first KVM_CREATE_VM sets EFER.SVME. Later ones only count "
        "(kvm_usage_count in virt/kvm/kvm_main.c).",
        _NO_LOG,
        "Nothing to do: KVM can use SVM on this host. To see SVME change, run `kvmprobe` while no VM is alive.",
    ),
    Reason(
        "guest-ran",
        "usable",
        "The registers could not be read, kvm_amd is KVM's only backend, and a guest ran on every CPU that this "
        "process may use; the report names these CPUs.",
        "VMRUN raises #UD where EFER.SVME is 0 (AMD APM volume 2, 15.5), so a guest that ran shows that SVME was 1.",
        _NO_LOG,
        "Nothing to do: KVM can use SVM on the CPUs that the report names. To read the registers of every CPU, "
        "kvmprobe needs root's rights (CAP_SYS_RAWIO) and the module msr.",
    ),
    Reason(
        "vendor-not-amd",
        "not applicable",
        "The CPU vendor is neither AuthenticAMD nor HygonGenuine.",
        "has_svm() (since 6.2: kvm_is_svm_supported(); since 6.6: __kvm_is_svm_supported()) checks the vendor first "
        "(arch/x86/kvm/svm/svm.c).",
        "If kvm_amd was loaded: 'has_svm: not amd or hygon' (until 6.1), 'kvm_amd: SVM not supported by CPU N, not "
        "amd or hygon' (6.2 to 6.5) or 'kvm_amd: CPU N isn't AMD or Hygon' (since 6.6).",
        "Nothing to do: only AMD and Hygon CPUs have SVM. On an Intel CPU, KVM uses VMX and kvm_intel.",
    ),
    Reason(
        "kvm-without-svm",
        "not applicable",
        "The CPU has no SVM bit, and KVM answers through another backend, which the report names.",
        "kvm.ko serves /dev/kvm for any vendor module that registers with it: kvm_intel (VMX), or a module that needs "
        "no hardware virtualization, such as kvm_pvm in a cloud guest.",
        "The lines of that backend.",
        "Nothing to do: VMs run here, but not with SVM, so there is no EFER.SVME to confirm.",
    ),
    Reason(
        "cpu-lacks-svm",
        "failed",
        "Raw CPUID 0x80000001 ECX has no SVM bit (bit 2), or the CPU has no such leaf.",
        "has_svm() (since 6.2: kvm_is_svm_supported()) refuses. The kernel does not change raw CPUID. A missing svm "
        "flag in /proc/cpuinfo does not show this: since 6.7 it is also missing where the firmware disabled SVM.",
        "'has_svm: svm not available' (until 6.1), 'kvm_amd: SVM not supported by CPU N, svm not available' (6.2 to "
        "6.5) or 'kvm_amd: SVM not supported by CPU N' (since 6.6).",
        "In a VM, enable nested virtualization in the hypervisor outside: set `kvm_amd.nested=1` there and give the VM "
        "`-cpu host` or `+svm` (QEMU). On bare metal, use another CPU model: this one cannot run VMs with KVM.",
    ),
    Reason(
        "firmware-disabled",
        "failed",
        "VM_CR.SVMDIS (bit 4) is 1: SVM is disabled.",
        "is_disabled() (6.2 to 6.6: kvm_is_svm_supported()) reads VM_CR (AMD APM volume 2, 15.4 and 15.30.1). Since "
        "6.7 the kernel reads it at boot and removes svm from /proc/cpuinfo. LOCK = 1 means that nobody can clear "
        "SVMDIS before a reset, except with a key where CPUID 0x8000000A EDX.SVML is 1. Every AMD CPU since family "
        "0x10 has SVML = 1, so SVML does not show that a key was set, and SVM_KEY cannot be read.",
        "'kvm: disabled by bios' (5.10), 'kvm: support for 'kvm_amd' disabled by bios' (6.1), 'kvm_amd: SVM "
        "disabled (by BIOS) in MSR_VM_CR on CPU N' (6.2 to 6.6), or, since 6.7, 'SVM disabled (by BIOS) in "
        "MSR_VM_CR' at boot, followed by 'kvm_amd: SVM not supported by CPU N', although the CPU supports SVM.",
        "Enable SVM in the firmware's setup: the entry is named 'SVM Mode', 'SVM', 'AMD-V', 'Secure Virtual Machine', "
        "'Virtualization Technology' or 'Virtualization Extensions', usually below Advanced > CPU Configuration. Then "
        "switch the machine off and on again.",
    ),
    Reason(
        "sev-guest",
        "failed",
        "This host is a memory-encrypted guest: SEV_STATUS.SEV (MSR 0xC0010131 bit 0) is 1, or the log shows it.",
        "kvm_amd refuses because an SEV guest cannot run nested guests: has_svm() (since 6.2: kvm_is_svm_supported()) "
        "checks cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT). Behind a paravisor, as in Azure, CPUID does not show SEV.",
        "'Memory Encryption Features active: AMD SEV' at boot, and 'KVM is unsupported when running as an SEV "
        "guest' of kvm_amd.",
        "Use an instance type without memory encryption (no SEV, SEV-ES, SEV-SNP), or bare metal.",
    ),
    Reason(
        "kvm-amd-not-loaded",
        "failed",
        "CPU and firmware allow SVM, and kvm_amd is neither loaded nor built in.",
        "Usually udev loads kvm_amd at boot by the CPU's feature alias (cpu:type:x86,...feature:*00C2*).",
        "No line of kvm_amd.",
        "Load kvm_amd: `modprobe kvm_amd`; or have kvmprobe record modprobe's answer: `kvmprobe --load-kvm`. If it is "
        "not loaded at boot, look for 'blacklist kvm_amd' in /etc/modprobe.d and for module_blacklist= in "
        "/proc/cmdline.",
    ),
    Reason(
        "kvm-amd-load-failed",
        "failed",
        "CPU and firmware allow SVM, and loading kvm_amd failed.",
        "modprobe reports the errno of init_module(2). It comes from svm_init() in arch/x86/kvm/svm/svm.c, or from the "
        "module loader before it (module not found, wrong version, signature, lockdown, module_blacklist=).",
        "Lines of kvm, kvm_amd and 'module' at the time of the attempt.",
        "Follow modprobe's message and the kernel's log: `dmesg | grep -i -e kvm -e svm -e module`. If the kernel was "
        "updated since the last boot, reboot: the modules of the running kernel may be gone.",
    ),
    Reason(
        "kvm-device-missing",
        "failed",
        "kvm_amd is present, and /dev/kvm is missing or no driver answers there.",
        "At last kvm_init() (virt/kvm/kvm_main.c) registers the misc device 'kvm' (10:232); devtmpfs makes the node.",
        "If kvm_amd is built in and refused the CPU: its message. /sys/module/kvm_amd exists in that case, too.",
        "In a container, give it the device: `docker run --device /dev/kvm`. On a host, check that devtmpfs is mounted "
        "on /dev (`findmnt /dev`) and read the kernel's log: `dmesg | grep -i kvm`.",
    ),
    Reason(
        "kvm-not-permitted",
        "inconclusive",
        "This process may not use /dev/kvm, or has too few open files or too little memory for it.",
        "The node's owner and mode decide (udev's 50-udev-default.rules: group kvm, mode 0660); in a container also "
        "the device cgroup.",
        _NO_LOG,
        "Run `kvmprobe` as root, or as a member of the group that owns /dev/kvm (usually kvm).",
    ),
    Reason(
        "api-version",
        "failed",
        "KVM_GET_API_VERSION did not answer 12.",
        "kvm_dev_ioctl() answers KVM_API_VERSION, which is 12 since 2.6.22 (include/uapi/linux/kvm.h).",
        _NO_LOG,
        "What answers at /dev/kvm is not Linux's KVM. Check that this shows the character device 10, 232: `ls -l "
        "/dev/kvm`.",
    ),
    Reason(
        "svm-held-by-another-owner",
        "failed",
        "EFER.SVME is 1 on some CPU although KVM has not set it, so KVM_CREATE_VM or loading kvm_amd fails; or it "
        "succeeded, and KVM cleared what another owner had set.",
        "svm_hardware_enable() returns EBUSY where it finds SVME set (arch/x86/kvm/svm/svm.c). Before 6.12 "
        "KVM_CREATE_VM then fails with EBUSY. Since 6.12 loading kvm_amd fails with EIO, or, with "
        "kvm.enable_virt_at_load=0, KVM_CREATE_VM does.",
        "'kvm: enabling virtualization on CPU1 failed'.",
        "Find what else uses SVM: VirtualBox (vboxdrv), VMware (vmmon) or another hypervisor module, listed by "
        "`lsmod`. Stop its VMs and unload it. If there is none, reboot: the kernel before a kexec may have left SVME "
        "set.",
    ),
    Reason(
        "create-vm-failed",
        "failed",
        "KVM_CREATE_VM failed for another reason; the report names the errno.",
        "kvm_dev_ioctl_create_vm() and kvm_create_vm() (virt/kvm/kvm_main.c).",
        "The lines of kvm at that time.",
        "For EBUSY or EIO, run `kvmprobe` as root with the module msr: EFER.SVME shows whether another owner uses SVM. "
        "For another errno, read the kernel's lines about kvm at that time.",
    ),
    Reason(
        "svme-not-set",
        "failed",
        "A VM was alive, or kvm.enable_virt_at_load=Y, and EFER.SVME was 0 on some online CPU.",
        "svm_hardware_enable() must set SVME on every online CPU: VMRUN raises #UD where it is 0.",
        "No line before a guest runs on that CPU; then an oops.",
        f"Do not run VMs on this host. {_RELOAD_HINT} {_REPORT_HINT}",
    ),
    Reason(
        "svme-not-cleared",
        "failed",
        "The last VM is gone, EFER.SVME should be 0, and it is 1 on some online CPU.",
        "With the last VM, kvm_destroy_vm() calls hardware_disable_all() and svm_hardware_disable(), which clear SVME, "
        "unless kvm.enable_virt_at_load=Y.",
        "No line. A later KVM_CREATE_VM may fail there: 'kvm: enabling virtualization on CPU1 failed'.",
        f"{_RELOAD_HINT} {_REPORT_HINT}",
    ),
    Reason(
        "register-corrupted",
        "failed",
        "While SVME was 1, VM_HSAVE_PA was zero, not aligned or the same on two CPUs; or it was not zero after the "
        "last VM or without kvm_amd; or a bit of EFER other than SVME changed; or VM_CR changed.",
        "svm_hardware_enable() sets only EFER.SVME and gives each CPU its own page in VM_HSAVE_PA (AMD APM volume 2, "
        "15.30.4). svm_hardware_disable() writes 0 to VM_HSAVE_PA. KVM does not write VM_CR.",
        _NO_LOG,
        f"Do not run VMs on this host. {_RELOAD_HINT} {_REPORT_HINT}",
    ),
    Reason(
        "resource-leaked",
        "failed",
        "A reference to kvm_amd, a descriptor or, over a soak, memory of the kernel was not returned with the last VM.",
        "kvm_destroy_vm() frees struct kvm and drops its reference to kvm_amd (virt/kvm/kvm_main.c).",
        _NO_LOG,
        f"Reboot, which alone returns it, and boot another kernel. {_REPORT_HINT}",
    ),
    Reason(
        "cpus-disagree",
        "failed",
        "Online CPUs differ in the vendor, the SVM bit, SVML or VM_CR.SVMDIS.",
        "Newer kernels check every CPU and refuse if one of them differs (6.12: svm_check_processor_compat()). Older "
        "kernels check only the CPU where modprobe runs (5.10, 6.1: has_svm(), is_disabled()).",
        "As for a CPU without SVM or with SVM disabled. With older kernels the lines may differ from boot to boot.",
        "Update the firmware, or load its defaults and enable 'SVM Mode' again. In a VM, give all vCPUs the same "
        "model.",
    ),
    Reason(
        "guest-failed",
        "failed",
        "EFER.SVME is 1, and the guest did not run to its end with the right answer.",
        "KVM_RUN calls svm_vcpu_run(), which executes VMRUN (arch/x86/kvm/svm/svm.c). The guest adds two numbers, "
        "writes a byte to a port and halts. The access to the port and all registers after HLT are checked.",
        "The lines of kvm_amd at that time, such as a failed VMRUN.",
        f"Do not run VMs on this host. {_RELOAD_HINT} {_REPORT_HINT}",
    ),
    NESTED_GUEST_FAILED,
    Reason(
        "observers-disagree",
        "failed",
        "Independent observers (the kernel's trace, ptrace, the registers, KVM's uevents) contradict each other. Every "
        "command has KVM's uevents, where pyudev is there; only trace and watch have more.",
        "KVM writes EFER with WRMSR, which the event msr:write_msr shows, and the register then reads as it was "
        "written. The observers differ where something else writes EFER, or where a hypervisor outside answers reads "
        "with other values.",
        _NO_LOG,
        "No observer is reliable here. See which CPU and which observer differ, and find what else uses SVM "
        "on this host (`lsmod`).",
    ),
    *REQUIREMENT_REASONS,
    Reason(
        "msr-unreadable",
        "inconclusive",
        "EFER or VM_CR (or raw CPUID, where it decides) could not be read.",
        "/dev/cpu/N/msr needs the module msr and CAP_SYS_RAWIO (arch/x86/kernel/msr.c).",
        _NO_LOG,
        "Run `kvmprobe` with root's rights (CAP_SYS_RAWIO) and without --no-load, so that it can temporarily load the "
        "module msr. In a container, give it /dev/cpu and CAP_SYS_RAWIO.",
    ),
    Reason(
        "vm-not-created",
        "inconclusive",
        "No VM was created: --passive was given, or the watched command did not create one.",
        "Before the first KVM_CREATE_VM (or, since 6.12, before kvm_amd is loaded) EFER.SVME is 0, "
        "which shows neither that SVM works nor that it does not.",
        _NO_LOG,
        "Run `kvmprobe` without --passive, or watch a command that creates a VM. `kvmprobe watch` without a command "
        "watches its own guest.",
    ),
    Reason(
        "guest-not-run",
        "inconclusive",
        "EFER.SVME was set before KVM_CREATE_VM, and no guest ran on some online CPU; or the watched guest ended "
        "before it reported.",
        "A VMRUN that succeeds shows that SVM works on a CPU where SVME did not change.",
        _NO_LOG,
        "Run `kvmprobe` where it may use every online CPU: cpusets and `taskset` limit that (Cpus_allowed_list in "
        "/proc/self/status).",
    ),
    NESTED_GUEST_NOT_RUN,
    Reason(
        "soak-step-not-done",
        "inconclusive",
        "`kvmprobe soak` was to do a step (--reload, --hotplug, --suspend, --kill), and could not do it once.",
        "rmmod refuses a module with references, a CPU may refuse to go offline, and a device to suspend; the report "
        "names the answer.",
        _NO_LOG,
        "Remove the obstacle that the report names, such as a process that uses kvm_amd, or omit the step.",
    ),
    Reason(
        "svme-owner-unknown",
        "inconclusive",
        "EFER.SVME was 1 where KVM had no reason to set it, KVM_CREATE_VM succeeded, and the evidence does not show "
        "for whose VM it was set.",
        "EFER.SVME belongs to the CPU, not to a VM. KVM's uevents, kvm_amd's reference count and the files of other "
        "processes show other VMs; a container may see none of them.",
        _NO_LOG,
        "Run `kvmprobe` on the host, outside of containers, with root's rights and pyudev (`apt-get install "
        "python3-pyudev`), while no VM is starting or stopping.",
    ),
    Reason(
        "interfered",
        "inconclusive",
        "VMs of other processes came and went during the probe, so the registers before and after cannot be compared.",
        "EFER.SVME belongs to the CPU, not to a VM: the first and the last VM of any process change it.",
        _NO_LOG,
        "Run `kvmprobe` again while no other VM is starting or stopping.",
    ),
)

REASONS = {reason.name: reason for reason in _TABLE}

# Names in reports that were written before they changed, and today's.
RENAMED_REASONS = {
    "firmware-disabled-with-key": "firmware-disabled",
    "witnesses-disagree": "observers-disagree",
}
