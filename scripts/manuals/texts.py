"""What the manual page says besides what --help and explain know."""

DESCRIPTION = """\
On AMD and Hygon processors KVM depends on SVM (AMD-V). kvmprobe creates a VM with KVM's own ioctls and reads the \
registers EFER and VM_CR on every CPU before, during and after. So it confirms that the running kernel really set \
EFER.SVME, or says exactly why not: the processor, the firmware's switch, a key, another owner of SVM, a module that \
is not there.

As root it sees everything. As an ordinary user it does what the rights allow, says what it could not see, and takes \
nothing that it could not read for zero.

It reads MSRs and never writes one. It loads the modules msr and cpuid where they are missing, unless --no-load is \
given, and unloads them again, however it ends. It leaves no VM behind and keeps no state. What a command does beyond \
that is said there.

Without a COMMAND it is check, and takes the options of check. The result goes to standard output, or where --output \
says; progress, warnings and errors go to standard error. Each verdict has one reason from a closed list (see REASONS).
"""

FILES = (
    ("/dev/kvm", "KVM's device. It is opened for reading and writing, to create a VM."),
    ("/dev/cpu/N/msr", "The MSRs of CPU N, of the module msr. Opened for reading only; that needs CAP_SYS_RAWIO."),
    ("/dev/cpu/N/cpuid", "CPUID of CPU N as the processor says it, of the module cpuid."),
    ("/dev/kmsg", "The kernel's log, of which the lines about KVM are kept."),
    ("/proc/cpuinfo", "What the kernel says of the processors."),
    ("/sys/module/kvm, /sys/module/kvm_amd", "Whether KVM is there, and its parameters."),
    ("/sys/kernel/tracing", "tracefs, for kvmprobe trace. It makes an instance of its own there and removes it."),
    (
        "~/.cache/kvmprobe",
        "The lab's kernels, userspace and logs ($XDG_CACHE_HOME/kvmprobe). It may be deleted.",
    ),
)

ENVIRONMENT = (
    ("NO_COLOR", "If it is set and not empty, the text is not coloured. Otherwise it is, on a terminal."),
    ("TERM", "If it is dumb or not set, the text is not coloured."),
    (
        "PATH",
        "Where COMMAND of kvmprobe watch, and the programs that the lab needs, are looked for.",
    ),
    ("XDG_CACHE_HOME", "The folder in which the lab's cache is (~/.cache)."),
    ("KVMPROBE_DEBUG", "If it is set and not empty, a defect of kvmprobe is shown with Python's traceback."),
)

EXAMPLES = (
    ("Probe this host:", "kvmprobe"),
    ("Only the verdict, in one line, for a script that looks at the exit status:", "kvmprobe -q"),
    (
        "Keep the whole report, and judge it again later or elsewhere:",
        "kvmprobe --json -o report.json\nkvmprobe judge report.json",
    ),
    ("What changed since the host was known to be good:", "kvmprobe --json | kvmprobe compare last-good.json -"),
    ("What a reason means and what to do about it:", "kvmprobe explain svm-held-by-another-owner"),
    ("Watch QEMU use KVM:", "kvmprobe watch -o report.txt -- qemu-system-x86_64 -accel kvm disk.img"),
    ("Stress the host for a minute, taking its CPUs off and on:", "kvmprobe soak --time 60 --hotplug"),
    ("See the confirmed case on any machine, in an emulated AMD guest:", "kvmprobe lab run bookworm"),
)

SEE_ALSO = (
    ("kvm-ok", "1"),
    ("qemu-system-x86_64", "1"),
    ("rdmsr", "1"),
    ("virt-host-validate", "1"),
    ("ioctl", "2"),
    ("ptrace", "2"),
    ("cpuid", "4"),
    ("msr", "4"),
    ("modprobe", "8"),
)

BOOKS = """\
Linux: Documentation/virt/kvm/api.rst, KVM's interface.

AMD64 Architecture Programmer's Manual, volume 2, chapter 15: Secure Virtual Machine.
"""
